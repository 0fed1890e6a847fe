"""Callbacks: code of the user that follows a run, and that may stop it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from funnelcast.errors import FunnelcastError


@dataclass(frozen=True)
class TrainBegin:
    """What a run is of: its `folder`, the experiment's `name` and `settings` as JSON has them, `rows` by part, the
    funnel's `steps`, and `is_resumed`: whether it goes on from a checkpoint."""

    folder: Path
    name: str
    settings: dict[str, Any]
    rows: dict[str, int]
    steps: tuple[str, ...]
    is_resumed: bool

    @property
    def label(self) -> str:
        """A name for the run among others: that of its folder, of a seed's with the folder above."""
        own, above = self.folder.resolve().name, self.folder.resolve().parent.name
        return f"{above}/{own}" if own.startswith("seed-") else own


@dataclass(frozen=True)
class StageBegin:
    """A stage that begins, or goes on from a checkpoint: its name `stage`, `epochs` at most, `patience`, `metric`,
    `learning_rate`, training `rows` and `steps_per_epoch`; `epoch` and `step` are those that come next."""

    stage: str
    epochs: int
    patience: int
    metric: str
    learning_rate: float
    rows: int
    steps_per_epoch: int
    epoch: int
    step: int


@dataclass(frozen=True)
class StepEnd:
    """A step that was trained: `stage`, `epoch` of the stage, `batch` of the epoch and `step` of the run, all from 0;
    the batch's mean loss by step of the funnel as `losses`, `learning_rate`, and of the epoch up to here `rows`,
    `seconds` and `rows_per_s`."""

    stage: str
    epoch: int
    batch: int
    step: int
    losses: dict[str, float]
    learning_rate: float
    rows: int
    seconds: float
    rows_per_s: float


@dataclass(frozen=True)
class EpochEnd:
    """An epoch that was trained and measured: `stage`, `epoch` of the stage and the last `step` of the run, from 0;
    mean `losses` and `task_weights` by step of the funnel; `dev`: the dev metrics by output, as in log.jsonl; `score`:
    the value of the stage's metric, higher is better; `is_best`: whether none before in the stage was as high;
    `learning_rate`, `rows`, `seconds`, `rows_per_s`, and `warnings` of collapsed outputs."""

    stage: str
    epoch: int
    step: int
    losses: dict[str, float]
    task_weights: dict[str, float]
    dev: dict[str, dict[str, Any]]
    score: float
    is_best: bool
    learning_rate: float
    rows: int
    seconds: float
    rows_per_s: float
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class TrainEnd:
    """A finished run: its `folder`, with the bundle in `folder / "bundle"`, and `results`: metrics by part and output,
    as in results.json."""

    folder: Path
    results: dict[str, Any]


class Callback:
    """Follows a run; a subclass has those of the methods that it needs.

    All are called in the thread that trains, between two steps, and change no result. A run that goes on from a
    checkpoint calls `on_train_begin` and `on_stage_begin` again, and repeats steps after the checkpoint. An exception
    in a callback ends the run, which goes on from its last checkpoint when the same call is made again. A run that was
    finished before calls nothing. Boosted trees alone have no stages, steps and epochs.
    """

    def on_train_begin(self, event: TrainBegin) -> None:
        """Called before anything is trained."""

    def on_stage_begin(self, event: StageBegin) -> None:
        """Called when the dev rows were measured and before the first step."""

    def on_step(self, event: StepEnd) -> bool | None:
        """Called after each step. True ends training: the epoch ends here, and the best state is kept."""

    def on_epoch_end(self, event: EpochEnd) -> bool | None:
        """Called when the dev rows were measured. True ends training, also of stages that are left."""

    def on_train_end(self, event: TrainEnd) -> None:
        """Called when the bundle and the results are written."""

    def on_exception(self, error: BaseException) -> None:
        """Called in place of `on_train_end` when the run fails or is interrupted; the error is raised afterwards."""


class Callbacks:
    """Several, called one after the other."""

    def __init__(self, callbacks: Sequence[Callback] = ()) -> None:
        """Raises FunnelcastError for what is no callback."""
        for i, callback in enumerate(callbacks):
            if not isinstance(callback, Callback):
                is_class = isinstance(callback, type) and issubclass(callback, Callback)
                fix = f"write {callback.__name__}()" if is_class else "give objects of a subclass of Callback"
                raise FunnelcastError(f"callbacks.{i} is {callback!r}, which is no funnelcast.Callback; {fix}")
        self.callbacks = tuple(callbacks)
        self.follows_steps = any(type(callback).on_step is not Callback.on_step for callback in callbacks)

    @contextmanager
    def run(self, begin: TrainBegin) -> Iterator[None]:
        """Begin a run; where it ends by an exception, the callbacks are told."""
        try:
            self.call("on_train_begin", begin)
            yield
        except BaseException as error:
            for callback in self.callbacks:
                try:
                    callback.on_exception(error)
                except Exception as other:
                    error.add_note(f"{type(callback).__name__}.on_exception failed too: {other!r}")
            raise

    def call(self, hook: str, event: Any) -> bool:
        """Call a method of all; whether any of them said to stop."""
        wishes = [self._called(callback, hook, event) for callback in self.callbacks]
        return any(wishes)

    def _called(self, callback: Callback, hook: str, event: Any) -> bool:
        try:
            return bool(getattr(callback, hook)(event))
        except Exception as error:
            error.add_note(f"in {type(callback).__name__}.{hook}; the same call goes on from the last checkpoint")
            raise
