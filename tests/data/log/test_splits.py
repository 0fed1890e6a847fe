"""Splits: chance that depends on nothing but seed and key, exact times, ties that stay together."""

from __future__ import annotations

import datetime
import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funnelcast.data.log import splits
from funnelcast.data.log.engine import Engine
from funnelcast.data.log.sources import ROW
from funnelcast.schema.dataset import Split


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Engine(tmp_path_factory.mktemp("engine")) as engine:
        yield engine


def parts(engine: Engine, columns: dict[str, Any], split: Split, row_group: int = 1000) -> list[str | None]:
    """The part of each row of a log."""
    path = engine.folder / "log.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=row_group)
    rows = engine.parquet([path]).mutate(**{ROW: ibis.row_number()})
    found: list[str | None] = engine.fetch(rows.select(part=splits.assign(engine, rows, rows, split)))[
        "part"
    ].to_pylist()
    return found


def by_hand(key: object, split: Split) -> str:
    share = int(hashlib.md5(f"{split.seed}:{key}".encode()).hexdigest()[:13], 16) / 16**13
    return "test" if share < split.test else "dev" if share < split.test + split.dev else "train"


def test_random_is_the_hash_of_seed_and_position_for_any_layout_of_the_file(engine: Engine) -> None:
    split = Split(dev=0.1, test=0.3, seed=7)
    expected = [by_hand(row, split) for row in range(5000)]
    for row_group in (64, 5000):
        assert parts(engine, {"x": range(5000)}, split, row_group) == expected
    shares = Counter(expected)
    assert shares["test"] / 5000 == pytest.approx(0.3, abs=0.02)
    assert shares["dev"] / 5000 == pytest.approx(0.1, abs=0.02)
    assert parts(engine, {"x": range(5000)}, Split(dev=0.1, test=0.3, seed=8)) != expected


def test_no_share_no_rows(engine: Engine) -> None:
    assert set(parts(engine, {"x": range(1000)}, Split(dev=0, test=0.2))) == {"train", "test"}
    assert set(parts(engine, {"x": range(1000)}, Split(dev=0.2, test=0))) == {"train", "dev"}


@pytest.mark.parametrize("kind", [int, str])
def test_rows_of_a_group_stay_together(engine: Engine, kind: type) -> None:
    split = Split(by="group", column="user", dev=0.2, test=0.3, seed=1)
    users = [kind(i * i % 97) for i in range(2000)]
    assert parts(engine, {"user": users}, split) == [by_hand(user, split) for user in users]


DAY = datetime.datetime(2024, 1, 1)
TIMES: dict[str, Any] = {
    "integers": range(100),
    "fractions": [i / 7 for i in range(100)],
    "times": [DAY + datetime.timedelta(microseconds=i) for i in range(100)],
    "zoned": pa.array([DAY + datetime.timedelta(hours=i) for i in range(100)], pa.timestamp("ms", "America/Lima")),
    "dates": [DAY.date() + datetime.timedelta(days=i) for i in range(100)],
    "texts": [(DAY + datetime.timedelta(days=i)).isoformat() for i in range(100)],
}


@pytest.mark.parametrize("kind", TIMES)
def test_the_latest_rows_are_test_and_those_before_them_dev(engine: Engine, kind: str) -> None:
    found = parts(engine, {"t": TIMES[kind]}, Split(by="time", column="t", dev=0.1, test=0.2))
    assert found == ["train"] * 70 + ["dev"] * 10 + ["test"] * 20


def test_iso_texts_are_ordered_by_their_offsets(engine: Engine) -> None:
    times = ["2024-01-01T12:00:00+05:00", "2024-01-01T08:00:00Z", "2024-01-01T06:00:00-05:00"]
    assert parts(engine, {"t": times}, Split(by="time", column="t", dev=0.3, test=0.3)) == ["train", "dev", "test"]


def in_order(times: list[int], split: Split) -> list[str]:
    """The rule, written down again: the value at the first rank of a part, and all from it on."""
    ranked = sorted(times)

    def first(share: float) -> float:
        count = next(n for n in range(len(times) + 1) if n >= share * len(times) - 1e-6)
        return ranked[-count] if count else float("inf")

    test, dev = first(split.test), first(split.test + split.dev)
    return ["test" if time >= test else "dev" if time >= dev else "train" for time in times]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 8), min_size=1, max_size=30), st.sampled_from([0, 0.1, 0.25]), st.sampled_from([0, 0.3]))
def test_equal_times_go_together_to_the_later_part(engine: Engine, times: list[int], dev: float, test: float) -> None:
    split = Split(by="time", column="t", dev=dev, test=test)
    found = parts(engine, {"t": times}, split)
    assert found == in_order(times, split)
    assert all(len({part for part, time in zip(found, times, strict=True) if time == t}) == 1 for t in times)


def test_what_is_left_to_split_beside_files() -> None:
    split = Split(dev=0.1, test=0.2)
    left = splits.remaining(split, has_dev=False, has_test=True)
    assert left is not None and (left.dev, left.test) == (0.1, 0)
    assert splits.remaining(split, has_dev=True, has_test=True) is None
    assert splits.remaining(Split(dev=0, test=0.2), has_dev=False, has_test=True) is None


def test_the_engine_leaves_no_file_of_a_stream(engine: Engine, tmp_path: Path) -> None:
    parts(engine, {"t": range(10)}, Split(by="time", column="t"))
    assert [path.name for path in engine.folder.iterdir() if path.is_file()] == ["log.parquet"]
