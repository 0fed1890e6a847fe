"""The log of a run: a JSON line per epoch, and what is told of the epoch under way."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from funnelcast.data.episodes import Loading
from funnelcast.data.progress import Progress as OnProgress
from funnelcast.evaluation.funnel import FunnelMetrics
from funnelcast.evaluation.health import Finding, Problem
from funnelcast.training.meta_log import adapting, meta_line
from funnelcast.training.progress import Progress
from funnelcast.training.stages import Stage

FAR, LEAST = 2.0, 50
"""A rate that is predicted so many times too high or too low is told, where so many rows reached the step."""

SLOW, LONG = 0.5, 5.0
"""An epoch is slow whose rows/s are under this share of the first epoch's, if it takes so many seconds."""


class EpochLog:
    """Call `begin`, `report` after each batch, `speed` after the last one, and `write` when dev rows are measured."""

    _stage: Stage
    _loader: Loading
    _started: float  # when the epoch would have begun, had no process been stopped in it
    _is_whole: bool  # whether all of the epoch is this process's
    line: dict[str, Any]  # the last epoch's
    _first: tuple[str, float] = "", 0.0  # a stage, and the rows/s of the first epoch that this process trained in it

    def __init__(self, file: Path, steps: tuple[str, ...], on_progress: OnProgress) -> None:
        """`steps`: names of the funnel's steps."""
        self.file, self.steps, self._on_progress = file, steps, on_progress
        self._found: set[tuple[str, tuple[Problem, ...]]] = set()  # what was wrong with an output already

    def cut(self, size: int) -> None:
        """Make the file, or drop what a killed run wrote after its last checkpoint: all but the first `size` bytes."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("ab") as file:
            file.truncate(min(size, file.tell()))  # one that was deleted meanwhile must not grow by zeros

    def begin(self, stage: Stage, loader: Loading, at: Progress) -> None:
        """An epoch, or the rest of one."""
        self._stage, self._loader, self._started = stage, loader, time.perf_counter() - at.seconds
        self._is_whole = at.batch == 0

    def report(self, at: Progress, weights: Tensor) -> None:
        """Mean losses of the epoch up to here; `weights` (T,): the task weights."""
        rows = self.rows(at.batch)
        rate = rows / self.seconds
        loss = " ".join(f"{value:.4f}" for value in at.losses())
        weighed = " ".join(f"{weight:.3f}" for weight in weights.tolist())
        self._tell(at, rows, f"{rate:,.0f} rows/s, loss {loss}, weights {weighed}")

    @property
    def seconds(self) -> float:
        """Of the epoch up to here, in all processes that trained in it."""
        return time.perf_counter() - self._started

    def speed(self, at: Progress) -> dict[str, float]:
        """Of the epoch; with `share_of_first_rate` where it is slow, next to the stage's first in this process."""
        seconds = self.seconds
        rate = self.rows(at.batch) / seconds
        found = {"seconds": round(seconds, 3), "rows_per_s": round(rate)}
        if self._is_whole and self._first[0] != self._stage.name:
            self._first = self._stage.name, rate
        share = rate / self._first[1] if self._is_whole else 1.0
        return found | ({"share_of_first_rate": round(share, 3)} if share < SLOW and seconds >= LONG else {})

    def write(
        self,
        at: Progress,
        weights: Tensor,
        metrics: FunnelMetrics,
        speed: dict[str, float],
        findings: Sequence[Finding] = (),
        effective: Sequence[float | None] | None = None,
    ) -> int:
        """The epoch's `line`, with what was found of the dev rows if anything was, and the effective sample size under
        a correction as share of rows (T,); returns the file's size with it."""
        rows = self._loader.num_rows if at.batch >= len(self._loader) else self.rows(at.batch)
        self.line = line = {
            "stage": self._stage.name,
            "epoch": at.epoch,
            "trained": list(self._stage.groups),
            "rows": rows,
            "loss": dict(zip(self.steps, at.losses(), strict=True)),
            "task_weights": dict(zip(self.steps, weights.tolist(), strict=True)),
            "dev": {name: measured.as_dict() for name, measured in metrics.outputs.items()},
            "is_best": at.waited == 0,
            **({"effective_sample": dict(zip(self.steps, effective, strict=True))} if effective else {}),
            **({"warnings": [finding.text for finding in findings]} if findings else {}),
            **({"meta": meta_line(at.meta_sums, self.steps)} if at.meta_sums else {}),
            **speed,
        }
        with self.file.open("ab") as file:
            file.write(json.dumps(line).encode() + b"\n")
        self._tell(at, rows, _summary(line) + self._new(findings))
        return self.file.stat().st_size

    def _new(self, findings: Sequence[Finding]) -> str:
        """A short line for each finding that no earlier epoch of this process had."""
        new = [finding for finding in findings if (finding.output, finding.problems) not in self._found]
        self._found |= {(finding.output, finding.problems) for finding in new}
        return "".join(f"\n  WARNING: {finding.said} (what to do: {self.file.name})" for finding in new)

    def rows(self, batches: int) -> int:
        """Rows of the epoch's first `batches`."""
        return min(batches * self._loader.batch_size, self._loader.num_rows)

    def _tell(self, at: Progress, rows: int, note: str) -> None:
        self._on_progress(f"{self._stage.name}, epoch {at.epoch + 1}", rows, self._loader.num_rows, "rows", note)


def _summary(line: dict[str, Any]) -> str:
    found = {name: m for name, m in line["dev"].items() if m["auc"]["estimate"] is not None}
    aucs = ", ".join(f"{name} {m['auc']['estimate']:.4f}" for name, m in found.items())
    best = " (best)" if line["is_best"] else ""
    return f"dev AUC: {aucs}{best}{_uncalibrated(found)}{_slow(line)}{adapting(line.get('meta'))}"


def _slow(line: dict[str, Any]) -> str:
    """Whether training has become slow: the machine does something else, or numbers are no longer what they were."""
    share = line.get("share_of_first_rate")
    return "" if share is None else f"; warning: {line['rows_per_s']:,} rows/s, {share:.0%} of the first epoch's rate"


def _uncalibrated(found: dict[str, Any]) -> str:
    """Which outputs' rates are far from the observed ones, of which AUC sees nothing."""
    ratios = {name: m["observed_over_predicted"] for name, m in found.items() if m["positives"] >= LEAST}
    far = {name: ratio for name, ratio in ratios.items() if ratio and not 1 / FAR <= ratio <= FAR}
    return "".join(f"; {name} is observed {ratio:.2g} times as often as predicted" for name, ratio in far.items())
