"""Checkpoints: safetensors and JSON in a folder that is either whole or not there."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import safetensors.torch
from torch import Tensor

from funnelcast.data.files import clear_stale, new_folder
from funnelcast.errors import FunnelcastError
from funnelcast.training.progress import Progress


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
        progress = json.loads((folder / "progress.json").read_text())
        if "told" in progress:  # its name in 0.1
            progress["meta_sums"] = progress.pop("told")
        return tensors, Progress(**progress)
    except (OSError, ValueError, TypeError, safetensors.SafetensorError) as error:
        raise FunnelcastError(
            f"the checkpoint {folder} is damaged ({error}); delete it to train from the start"
        ) from None


def drop_checkpoint(folder: Path) -> None:
    """Delete the checkpoint, if there is one, and what killed runs left of others."""
    clear_stale(folder)
    shutil.rmtree(folder, ignore_errors=True)
