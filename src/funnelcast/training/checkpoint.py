"""Checkpoints: safetensors and JSON in a folder that is either whole or not there."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors.torch
from torch import Tensor

from funnelcast.data.files import clear_stale, new_folder
from funnelcast.errors import FunnelcastError


@dataclass
class Progress:
    """Where a run stands; with the tensors it is all that a resumed run needs."""

    stage: int = 0
    epoch: int = 0  # within the stage
    batch: int = 0  # within the epoch: the next one to train on
    begun: bool = False  # whether the stage's starting state was measured
    best: float | None = None  # of this stage
    best_epoch: int = -1  # -1 for the state it began with
    waited: int = 0  # epochs without a better metric
    loss_sum: list[float] = field(default_factory=list)  # per step, over the rows of this epoch, times their weights
    weight_sum: list[float] = field(default_factory=list)
    log_bytes: int = 0  # of the log that belong to the past
    done: bool = False

    def count(self, losses: list[float], weights: list[float]) -> None:
        """Mean losses of a batch, per step, and the weights of its rows that observed the step."""
        zeros = [0.0] * len(losses)
        batch = [loss * weight for loss, weight in zip(losses, weights, strict=True)]
        self.loss_sum = [a + b for a, b in zip(self.loss_sum or zeros, batch, strict=True)]
        self.weight_sum = [a + b for a, b in zip(self.weight_sum or zeros, weights, strict=True)]

    def losses(self) -> list[float]:
        """Means over the epoch so far; 0 for a step that no row observed."""
        pairs = zip(self.loss_sum, self.weight_sum, strict=True)
        return [total / weight if weight else 0.0 for total, weight in pairs]


def save_checkpoint(folder: Path, tensors: dict[str, Tensor], progress: Progress) -> None:
    """Replace the last checkpoint, if there is one; it is whole or not there."""
    with new_folder(folder, replace=True) as partial:
        safetensors.torch.save_file(
            {name: t.contiguous() for name, t in tensors.items()}, partial / "state.safetensors"
        )
        (partial / "progress.json").write_text(json.dumps(asdict(progress)))


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensor], Progress] | None:
    """The last whole checkpoint, or none. Raises FunnelcastError for a damaged one."""
    old = next(iter(folder.parent.glob(f".{folder.name}.partial-old-*")), None)
    if not folder.exists() and old is not None:
        old.rename(folder)
    if not folder.exists():
        return None
    try:
        tensors = safetensors.torch.load_file(folder / "state.safetensors")
        return tensors, Progress(**json.loads((folder / "progress.json").read_text()))
    except (OSError, ValueError, TypeError, safetensors.SafetensorError) as error:
        raise FunnelcastError(
            f"the checkpoint {folder} is damaged ({error}); delete it to train from the start"
        ) from None


def drop_checkpoint(folder: Path) -> None:
    """Delete the checkpoint, if there is one, and what killed runs left of others."""
    clear_stale(folder)
    shutil.rmtree(folder, ignore_errors=True)
