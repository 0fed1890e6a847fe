"""What a bundle's probabilities are corrected by, after its model, its trees and the sampling of negatives.

logit_t = map_t(logit of the model given the parent) + offset_t(value of a field); reach is the product along the path,
so no step is likelier than its parent, whatever the maps are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from funnelcast.calibration.step_map import StepMap
from funnelcast.data.batch import Batch
from funnelcast.ops.reach import HEADS, Reach, logits_given_parent

FILE = "calibration.json"


@dataclass(frozen=True)
class FieldOffsets:
    """What the log odds of a step move by, for each value of an id feature."""

    feature: str
    column: int
    """Of the feature in `Batch.ids`."""
    ids: Sequence[int]
    """Ascending, one at least: those with an offset of their own."""
    values: Sequence[Sequence[float]]
    """(T,) by id."""
    others: Sequence[float]
    """(T,) of every other id, the unknown one too."""

    def __call__(self, ids: Tensor) -> Tensor:
        """(B,) ids of the feature -> (B, T) float64."""
        known, table = (tensor.to(ids.device) for tensor in self._tensors)
        at = torch.searchsorted(known, ids.long()).clamp(max=len(known) - 1)
        return table[torch.where(known[at] == ids, at, len(known))]

    @cached_property
    def _tensors(self) -> tuple[Tensor, Tensor]:
        return torch.tensor(self.ids), torch.tensor([*self.values, self.others], dtype=torch.float64)


@dataclass(frozen=True)
class Calibration:
    """Maps of every step, and offsets by a field where they help."""

    steps: tuple[StepMap, ...]
    parents: tuple[int, ...]
    rows: int
    """That it was fitted to."""
    source: dict[str, Any] = field(default_factory=dict)
    """What those rows are."""
    offsets: FieldOffsets | None = None

    @property
    def is_identity(self) -> bool:
        """Whether it leaves all probabilities as they are, bit for bit."""
        return self.offsets is None and all(step.kind == "none" for step in self.steps)

    def __call__(self, reach: Reach, batch: Batch) -> Reach:
        """Reach (B, T) of the rows of a batch."""
        if self.is_identity:
            return reach
        logits = self.of_logits(logits_given_parent(reach, self.parents), batch.ids)
        found = HEADS["chain"](logits, self.parents)
        return Reach(found.log_p.to(reach.log_p.dtype), found.log_q.to(reach.log_q.dtype))

    def of_logits(self, logits: Tensor, ids: Tensor) -> Tensor:
        """Log odds given the parent (B, T) float64, by those of a model and the ids (B, F) of the rows."""
        mapped = torch.stack([step(logits[:, t]) for t, step in enumerate(self.steps)], 1)
        return mapped if self.offsets is None else mapped + self.offsets(ids[:, self.offsets.column])

    @property
    def fingerprint(self) -> str:
        """Hash of the maps, 12 hex digits."""
        said = [
            [(step.x, step.y, step.below, step.above) for step in self.steps],
            self.offsets and asdict(self.offsets),
        ]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]

    def save(self, folder: Path) -> None:
        """Write `calibration.json`."""
        said = {
            "rows": self.rows,
            "source": self.source,
            "parents": self.parents,
            "steps": [step.as_dict() for step in self.steps],
            "offsets": None if self.offsets is None else asdict(self.offsets),
        }
        (folder / FILE).write_text(json.dumps(said, indent=1))

    @classmethod
    def load(cls, folder: Path) -> Calibration:
        """What `save` wrote."""
        said = json.loads((folder / FILE).read_text())
        steps = tuple(StepMap(**each) for each in said["steps"])
        offsets = None if said["offsets"] is None else FieldOffsets(**said["offsets"])
        return cls(steps, tuple(said["parents"]), said["rows"], said["source"], offsets)
