"""Clean logs of many kinds: the doctor says nothing, for any seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funnelcast.data.datasets.aliccp.prepare import prepare_aliccp
from funnelcast.data.datasets.census.prepare import prepare_census
from funnelcast.data.datasets.generator.generate import generate
from funnelcast.data.table import Table
from tests.data_checks import logs
from tests.data_checks.logs import FEATURES, Log

pytestmark = pytest.mark.slow

Parts = dict[str, Log]
Kind = Callable[[int], tuple[Parts, dict[str, Any]]]
"""A log in parts by its seed, and what its schema says."""


def independent(seed: int) -> tuple[Parts, dict[str, Any]]:
    return logs.parted(logs.draw(2000, seed, click_rate=(0.03, 0.2, 0.5)[seed % 3]), seed), {}


def tiny(seed: int) -> tuple[Parts, dict[str, Any]]:
    return logs.parted(logs.draw(60, seed), seed), {}


def ids_of_one_row(seed: int) -> tuple[Parts, dict[str, Any]]:
    """Most users have one row, and most test rows a user that train has not; weights differ."""
    log, rng = logs.draw(2000, seed), np.random.default_rng(seed)
    log |= {"user": rng.integers(0, 3000, 2000), "weight": rng.integers(0, 4, 2000).astype(float)}
    return logs.parted(log, seed), {"weight": "weight", "features": {**FEATURES, "user": "categorical"}}


def users_in_runs(seed: int) -> tuple[Parts, dict[str, Any]]:
    """A user's rows stand together and agree in age and hour; users come to a part together."""
    log, rng = logs.draw(3000, seed), np.random.default_rng(seed)
    user = np.repeat(np.arange(100), 30)
    log |= {"user": user, "hour": rng.integers(0, 4, 100)[user], "age": rng.integers(18, 80, 100)[user].astype(float)}
    in_test = rng.random(100)[user] < 0.3
    return {"train": logs.take(log, np.flatnonzero(~in_test)), "test": logs.take(log, np.flatnonzero(in_test))}, {}


def ten_days_by_time(seed: int) -> tuple[Parts, dict[str, Any]]:
    """Hours follow each other, and the test part has not all hours alike."""
    log = logs.draw(3000, seed)
    log |= {"time": np.arange(3000), "hour": np.arange(3000) // 12 % 24}
    parts = {"train": (0, 2200), "dev": (2200, 2500), "test": (2500, 3000)}
    return {part: logs.take(log, np.arange(*rows)) for part, rows in parts.items()}, {"keep": ["time"]}


def few_values(seed: int) -> tuple[Parts, dict[str, Any]]:
    """Nearly every row repeats."""
    features = {"hour": "categorical", "tags": {"kind": "multi"}}
    return logs.parted(logs.draw(2000, seed), seed), {"features": features}


def repeated_in_sessions(seed: int) -> tuple[Parts, dict[str, Any]]:
    """Every row is shown a second time, to be clicked or not."""
    log, rng = logs.take(logs.draw(1500, seed), np.repeat(np.arange(1500), 2)), np.random.default_rng(seed)
    log |= {"click": (rng.random(3000) < 0.2).astype(np.int8)}
    return logs.parted(log, seed), {"funnel": "click"}


KINDS: list[Kind] = [
    independent, tiny, ids_of_one_row, users_in_runs, ten_days_by_time, few_values, repeated_in_sessions,
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.__name__))
def test_a_clean_log(kind: Kind, tmp_path: Path) -> None:
    for seed in range(3):
        parts, schema = kind(seed)
        assert logs.findings_of(logs.written(tmp_path, parts, **schema)) == [], seed


def test_a_clean_log_that_is_prepared(tmp_path: Path) -> None:
    assert logs.findings_of(logs.prepared(tmp_path, logs.draw(3000))) == []


@pytest.mark.parametrize("rows", [2000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_a_generated_log(rows: int, tmp_path: Path) -> None:
    """Whose test part has users of its own: a third of the rows, or half."""
    generate(tmp_path / "raw", rows, seed=rows)
    train, test = (tmp_path / f"raw/sample_skeleton_{part}.csv" for part in ("train", "test"))
    for schema in ("aliccp-aitm", "aliccp-full")[: 1 + (rows < 10_000)]:
        prepare_aliccp(train, test, tmp_path / schema, schema=schema)
        assert logs.findings_of(Table.open(tmp_path / schema)) == []


@pytest.mark.slow
def test_census(tmp_path: Path) -> None:
    """27 % of its test rows have twins in train, and a family status tells who never married with an AUC of .978."""
    prepare_census(tmp_path / "table")
    assert logs.findings_of(Table.open(tmp_path / "table")) == []
