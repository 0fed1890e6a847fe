"""A second reader of Ali-CCP's raw text: plain splitting; of the package it knows the first id of each field."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from funnelcast.data.datasets.generator.text import FIRST_IDS

Features = list[tuple[str, int, float]]


class Part:
    """A part of a log, read by splitting text."""

    def __init__(self, folder: Path, name: str) -> None:
        skeleton = [line.split(",") for line in (folder / f"sample_skeleton_{name}.csv").read_text().splitlines()]
        common = [line.split(",") for line in (folder / f"common_features_{name}.csv").read_text().splitlines()]
        self.sample_ids = [line[0] for line in skeleton]
        self.labels = np.array([[int(line[1]), int(line[2])] for line in skeleton])
        self.index = [line[3] for line in skeleton]
        self.counts = [int(line[4]) for line in skeleton] + [int(line[1]) for line in common]
        self.rows = [_features(line[5]) for line in skeleton]
        self.common_index = [line[0] for line in common]
        self.common = {line[0]: _features(line[2]) for line in common}
        self.truth = pq.read_table(folder / f"truth_{name}.parquet")

    @cached_property
    def histories(self) -> dict[str, dict[tuple[str, int], float]]:
        """Per list: (field, id counted from the field's first) -> value."""
        return {i: {(f, code - FIRST_IDS[f]): value for f, code, value in line} for i, line in self.common.items()}

    def ids(self, field: str) -> set[int]:
        return {code for row in self.rows for f, code, _ in row if f == field}


def _features(text: str) -> Features:
    parts = [feature.split("\x02") for feature in text.split("\x01")]
    return [(field, int(rest.split("\x03")[0]), float(rest.split("\x03")[1])) for field, rest in parts]
