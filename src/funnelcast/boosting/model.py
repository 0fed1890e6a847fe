"""Boosted trees as a model: what the rest of the package asks of one, whoever made the trees."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import final

import numpy as np
import torch

from funnelcast.boosting.id_rates import IdRates
from funnelcast.boosting.matrix import Matrix
from funnelcast.boosting.trees import StepScore, load_step, require_lightgbm
from funnelcast.data.batch import Batch
from funnelcast.models.base import Head
from funnelcast.ops import Precision
from funnelcast.ops.reach import HEADS, Reach


@final
class BoostedModel:
    """matrix -> a booster per step -> logits (B, T) -> head. It knows nothing before `boosting.fit` fits it."""

    def __init__(self, matrix: Matrix, parents: tuple[int, ...], head: Head) -> None:
        self.matrix, self.parents, self.head = matrix, parents, head
        self.statistics = IdRates({}, {})
        self.steps: tuple[StepScore, ...] = ()

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def size(self) -> int:
        """Leaves of all trees."""
        return sum(step.size for step in self.steps)

    @property
    def fingerprint(self) -> str:
        """Hash of boosters and statistics, 12 hex digits."""
        digest = hashlib.sha256(repr(self.steps).encode())
        for name, values in sorted(self.statistics.arrays().items()):
            digest.update(name.encode() + values.tobytes())
        return digest.hexdigest()[:12]

    def __call__(self, batch: Batch) -> Reach:
        """Log-probabilities (B, T) of having reached and not having reached each step, float32."""
        x = self.matrix(batch, self.statistics)
        logits = np.stack([step.logits(x) for step in self.steps], 1)
        log_p, log_q = HEADS[self.head](torch.from_numpy(logits), self.parents)
        return Reach(log_p.float(), log_q.float())

    def score(self, batch: Batch, *, precision: Precision = "float32") -> Reach:
        """The same; trees have no products."""
        return self(batch)

    def save(self, folder: Path) -> None:
        """Write `boosters.json`, a text file per booster, and `statistics.safetensors`."""
        steps = [step.save(folder, f"step-{t}.txt") for t, step in enumerate(self.steps)]
        described = {"lightgbm": require_lightgbm().__version__, "steps": steps}
        (folder / "boosters.json").write_text(json.dumps(described, indent=1))
        self.statistics.save(folder / "statistics.safetensors")

    def load(self, folder: Path) -> None:
        described = json.loads((folder / "boosters.json").read_text())
        self.steps = tuple(load_step(folder, each) for each in described["steps"])
        self.statistics = IdRates.load(folder / "statistics.safetensors")
