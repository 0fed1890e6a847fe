"""Runs in TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from funnelcast.callbacks.figures import figures_of_epoch, figures_of_part, figures_of_step
from funnelcast.errors import FunnelcastError
from funnelcast.runtime.extras import require_extra
from funnelcast.training.callback import Callback, EpochEnd, StageBegin, StepEnd, TrainBegin, TrainEnd


class TensorBoard(Callback):
    """Writes losses, dev and test metrics, speed and settings for `tensorboard --logdir FOLDER`.

    Each run has a subfolder with the name of its run folder, that of a seed with the folder above. A run that is
    repeated or goes on hides what was written of the same steps before. Needs the extra `tensorboard`.
    """

    def __init__(self, folder: Path | str, every: int = 10) -> None:
        """Create a callback.

        Args:
            folder: Of TensorBoard's files.
            every: Losses of steps are written for one step of this many; 0 for none.

        Raises:
            FunnelcastError: Where TensorBoard is missing, or for a negative `every`.
        """
        if every < 0:
            raise FunnelcastError(f"every = {every} is negative; give 0 for no steps, 1 for all, 10 for one of ten")
        self.folder, self.every = Path(folder), every
        _library()
        self._writer: Any = None

    def on_train_begin(self, event: TrainBegin) -> None:
        self._begin, self._step = event, 0

    def on_stage_begin(self, event: StageBegin) -> None:
        self._step = event.step
        self._open()

    def on_step(self, event: StepEnd) -> None:
        if self.every and event.step % self.every == 0:
            self._write(figures_of_step(event), event.step)

    def on_epoch_end(self, event: EpochEnd) -> None:
        self._write(figures_of_epoch(event), event.step)
        self._writer.flush()

    def on_train_end(self, event: TrainEnd) -> None:
        self._open()
        for part in event.results.keys() - {"dev"}:
            self._write(figures_of_part(part, event.results[part]), self._step)
        self._close()

    def on_exception(self, error: BaseException) -> None:
        self._close()

    def _open(self) -> None:
        """Open the run's file, if it is not open; steps from the next one on are hidden in files before it."""
        if self._writer is None:
            folder = str(self.folder / self._begin.label)
            self._writer = _library().SummaryWriter(folder, purge_step=self._step)
            settings = json.dumps(self._begin.settings, indent=1)
            self._writer.add_text("settings", f"```json\n{settings}\n```", self._step)

    def _write(self, figures: dict[str, float], step: int) -> None:
        self._step = step
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _library() -> Any:
    return require_extra("torch.utils.tensorboard", "tensorboard", "the TensorBoard callback")
