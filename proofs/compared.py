"""What the long comparisons of models share: one generated log, and runs that go on where a killed proof stopped."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev, variance
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from funnelcast.evaluation.standard_errors import quantile
from funnelcast.experiments.compare import compare
from harness.cost import Cost, cost

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
OUTPUTS = ("click", "conversion", "conversion_given_click")


class Trained(NamedTuple):
    """The runs of one experiment."""

    name: str
    bundles: list[Path]
    """One per seed."""
    cost: Cost
    """Of all of them, as one command."""

    @property
    def epochs(self) -> float:
        """Mean over the seeds; 0 of boosters, which have none."""
        texts = [(bundle.parent / "log.jsonl").read_text() for bundle in self.bundles]
        return sum("epoch" in json.loads(line) for text in texts for line in text.splitlines()) / len(self.bundles)


@contextmanager
def kept(folder: Path | None) -> Iterator[Path]:
    """The folder of a proof's runs, or one that goes with it."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    else:
        with TemporaryDirectory() as name:
            yield Path(name)


def generated_table(folder: Path, rows: int) -> Path:
    """The table of a log of so many rows in Ali-CCP's format, prepared by AITM's protocol; made unless it is there."""
    raw, table = folder / "raw", folder / "table"
    if not (table / "manifest.json").is_file():
        cost("datasets", "generate", raw, "--rows", rows, "--replace")
        files = [f"--{part}={raw / f'sample_skeleton_{part}.csv'}" for part in ("train", "test")]
        cost("prepare", "ali-ccp", *files, "--out", table)
    return table


def train(experiment: Path, table: Path, folder: Path, seeds: int) -> Trained:
    """Train by the command line, unless it is done."""
    path = folder / "cost.json"
    if not path.is_file():
        took = cost("train", experiment, "--data", table, "--seeds", seeds, "--out", folder)
        path.write_text(json.dumps(asdict(took)))
    bundles = [folder / f"seed-{seed}" / "bundle" for seed in range(seeds)] if seeds > 1 else [folder / "bundle"]
    return Trained(folder.name, bundles, Cost(**json.loads(path.read_text())))


def predictions(trained: Trained, table: Path) -> list[Path]:
    """Of the test rows, a file per seed; made unless it is there."""
    files = [bundle.parent / "predictions.parquet" for bundle in trained.bundles]
    for bundle, file in zip(trained.bundles, files, strict=True):
        if not file.is_file():
            cost("predict", bundle, table, "--out", file)
    return files


def auc_differences(files: list[Path], others: list[Path]) -> list[str]:
    """Of the AUC of `others` and `files`, seed by seed, with a 95 % interval.

    All seeds are measured on the same rows, so what the choice of rows adds does not average out over them: the
    variance is DeLong's of one pair, in the mean, and the variance over seeds divided by their number.
    """
    found = [compare(other, file) for file, other in zip(files, others, strict=True)]
    return [_difference([each[output] for each in found]) for output in OUTPUTS]


def _difference(pairs: list[dict[str, Any]]) -> str:
    values = [pair["estimate"] for pair in pairs]
    variance_of_mean = mean(pair["std_error"] ** 2 for pair in pairs)
    variance_of_mean += variance(values) / len(values) if len(values) > 1 else 0.0
    half = quantile(0.95) * math.sqrt(variance_of_mean)
    return f"{mean(values):+.4f} [{mean(values) - half:+.4f}, {mean(values) + half:+.4f}]"


def mean_and_std(values: list[float], digits: int = 4) -> str:
    """Mean, and the standard deviation of several."""
    return f"{mean(values):.{digits}f}" + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")
