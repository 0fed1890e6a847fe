"""What boosting learns of one step: trees, or a constant."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from funnelcast.errors import FunnelcastError


def require_lightgbm() -> Any:
    """The module lightgbm, which is imported when it is first needed. Raises FunnelcastError where it is missing."""
    try:
        return importlib.import_module("lightgbm")
    except (ImportError, OSError) as error:  # OSError: without libgomp
        fix = "install it with: python -m pip install lightgbm"
        if isinstance(error, OSError):
            fix = "install the system's OpenMP library: libgomp1 on Debian and Ubuntu, libomp by Homebrew on macOS"
        raise FunnelcastError(
            f"boosted trees need the package lightgbm, which cannot be imported ({error}); {fix}"
        ) from None


class StepScore(Protocol):
    """What is learned of one step."""

    @property
    def size(self) -> int:
        """Numbers that were learned."""

    def logits(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """(B, columns) -> (B,)."""

    def save(self, folder: Path, name: str) -> dict[str, Any]:
        """Write what is large into a file `name`; returns the rest, as JSON has it."""


@dataclass(frozen=True)
class Trees:
    """A booster, kept as LightGBM's own text, so that one that was saved and one that was not are the same."""

    text: str

    @classmethod
    def of(cls, booster: Any, rounds: int) -> Trees:
        """The first `rounds` trees. The number of threads that made them stays out, as it decides nothing."""
        text = booster.model_to_string(num_iteration=rounds)
        return cls(re.sub(r"\[num_threads: \d+\]", "[num_threads: 0]", text))

    @cached_property
    def booster(self) -> Any:
        """LightGBM's Booster."""
        return require_lightgbm().Booster(model_str=self.text)

    @property
    def size(self) -> int:
        """Leaves."""
        return sum(map(int, re.findall(r"^num_leaves=(\d+)$", self.text, re.MULTILINE)))

    def logits(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums of leaves (B,), on as many threads as PyTorch has."""
        if not len(x):
            return np.zeros(0)
        found: NDArray[np.float64] = self.booster.predict(x, raw_score=True, num_threads=torch.get_num_threads())
        return found

    def save(self, folder: Path, name: str) -> dict[str, Any]:
        (folder / name).write_bytes(self.text.encode())
        return {"trees": name}


@dataclass(frozen=True)
class Constant:
    """The same logit for every row: of a step whose training rows are all of one class, or none."""

    logit: float
    size = 1

    @classmethod
    def of(cls, reached: int, others: int) -> Constant:
        """From numbers of rows; half a row of each class is added, as a probability of 0 or 1 has no logit."""
        return cls(float(np.log((reached + 0.5) / (others + 0.5))))

    def logits(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.full(len(x), self.logit)

    def save(self, folder: Path, name: str) -> dict[str, Any]:
        return {"constant": self.logit}


def load_step(folder: Path, described: dict[str, Any]) -> StepScore:
    """What a step's `save` wrote into `folder`, and returned."""
    if "constant" in described:
        return Constant(described["constant"])
    return Trees((folder / described["trees"]).read_bytes().decode())
