"""Paired differences between two prediction files, and files that cannot be paired."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from funnelcast.errors import ComparisonError, FunnelcastError, InputError
from funnelcast.evaluation.auc import auc, auc_difference
from funnelcast.experiments.compare import compare
from funnelcast.experiments.prediction_schema import with_note

ROWS = 300


def predictions(seed: int) -> pa.Table:
    """The same rows and labels, other predictions; some labels are unobserved."""
    rng, own = np.random.default_rng(0), np.random.default_rng([1, seed])
    click = rng.random(ROWS) < 0.5
    conversion = click & (rng.random(ROWS) < 0.4)
    unobserved = rng.random((2, ROWS)) < 0.1
    p_click, given = own.uniform(0.1, 0.9, (2, ROWS))
    return pa.table(
        {
            "row": np.arange(ROWS),
            "click": pa.array(click.astype(np.uint8), mask=unobserved[0]),
            "conversion": pa.array(conversion.astype(np.uint8), mask=unobserved[1]),
            "p_click": p_click,
            "p_conversion": p_click * given,
            "p_conversion_given_click": given,
        }
    )


def write(tmp_path: Path, change: Callable[[pa.Table], pa.Table] = lambda table: table) -> tuple[Path, Path]:
    for name, table in (("a", predictions(0)), ("b", change(predictions(1)))):
        pq.write_table(table, tmp_path / f"{name}.parquet")
    return tmp_path / "a.parquet", tmp_path / "b.parquet"


def test_each_difference_is_over_the_sample_space_of_its_output(tmp_path: Path) -> None:
    found = compare(*write(tmp_path))
    tables = [predictions(seed).to_pandas() for seed in (0, 1)]
    click, conversion = tables[0].click, tables[0].conversion
    spaces = {
        "click": (click, click.notna()),
        "conversion": (conversion, conversion.notna()),
        "conversion_given_click": (conversion, conversion.notna() & (click == 1)),
    }
    assert list(found) == list(spaces)
    for output, (label, rows) in spaces.items():
        y, (a, b) = label[rows].to_numpy(np.uint8), (t[f"p_{output}"][rows].to_numpy() for t in tables)
        assert found[output] == {"a": auc(y, a), "b": auc(y, b), **auc_difference(y, a, b)._asdict()}
        assert found[output]["estimate"] == pytest.approx(auc(y, a) - auc(y, b), abs=1e-12)
        assert found[output]["low"] < found[output]["estimate"] < found[output]["high"]


def test_rows_count_by_their_weight_where_a_file_says_which_column_that_is(tmp_path: Path) -> None:
    """And a column that is named like an output is none, where the file says what its outputs are."""
    weight = np.random.default_rng(2).integers(0, 4, ROWS).astype(np.float32)
    for name, seed in (("a", 0), ("b", 1)):
        table = predictions(seed).append_column("w", pa.array(weight)).append_column("p_old", pa.array([7.0] * ROWS))
        outputs = ["p_click", "p_conversion", "p_conversion_given_click"]
        pq.write_table(with_note(table, outputs, "w"), tmp_path / f"{name}.parquet")
    found = compare(tmp_path / "a.parquet", tmp_path / "b.parquet")
    first, second = (predictions(seed).to_pandas() for seed in (0, 1))
    rows = first.click.notna().to_numpy()
    y, (one, two) = first.click[rows].to_numpy(np.uint8), (t.p_click[rows].to_numpy() for t in (first, second))
    assert list(found) == ["click", "conversion", "conversion_given_click"]
    assert found["click"]["estimate"] == auc_difference(y, one, two, weight[rows]).estimate
    assert found["click"]["a"] == auc(y, one, weight[rows]) != auc(y, one)


@pytest.mark.parametrize("wrong", [-1.0, np.inf, None])
def test_weights_that_are_none(tmp_path: Path, wrong: float | None) -> None:
    table = predictions(0).append_column("w", pa.array([wrong] + [1.0] * (ROWS - 1)))
    pq.write_table(with_note(table, ["p_click"], "w"), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="the weight 'w' is missing, infinite or below 0 in 1 rows"):
        compare(tmp_path / "a.parquet", tmp_path / "a.parquet")


def test_a_weight_that_is_gone(tmp_path: Path) -> None:
    pq.write_table(with_note(predictions(0), ["p_click"], "w"), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="a.parquet lacks 'w', the weight of its rows; predict again"):
        compare(tmp_path / "a.parquet", tmp_path / "a.parquet")


@pytest.mark.parametrize("note", [b"{", b"\xff", b"[]", b'{"outputs": 3}', b'{"weight": ["w"]}'])
def test_a_damaged_note(tmp_path: Path, note: bytes) -> None:
    pq.write_table(predictions(0).replace_schema_metadata({b"funnelcast": note}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="a.parquet: the note on its outputs in the file is damaged; predict again"):
        compare(tmp_path / "a.parquet", tmp_path / "a.parquet")


def test_a_file_and_itself_do_not_differ(tmp_path: Path) -> None:
    a, _ = write(tmp_path)
    assert all(d["estimate"] == 0 and d["a"] == d["b"] for d in compare(a, a).values())


def test_an_output_without_a_class_has_no_difference(tmp_path: Path) -> None:
    table = predictions(0)
    none = table.set_column(2, "conversion", pa.array(np.zeros(ROWS, np.uint8)))
    pq.write_table(none, tmp_path / "a.parquet")
    found = compare(tmp_path / "a.parquet", tmp_path / "a.parquet")
    assert found["click"]["estimate"] == 0
    assert found["conversion"]["estimate"] is None and found["conversion"]["a"] is None


DAMAGES: list[tuple[Callable[[pa.Table], pa.Table], str]] = [
    (lambda table: table.slice(1), "has 300 rows, .*b.parquet has 299"),
    (lambda table: table.take(np.arange(ROWS)[::-1]), "'row' differs between the files"),
    (lambda table: table.set_column(1, "click", pa.array(np.ones(ROWS, np.uint8))), "'click' differs"),
    (lambda table: table.rename_columns({"p_conversion": "p_buy"}), "lacks 'p_(conversion|buy)'"),
    (lambda table: table.drop_columns(["row"]), "lacks 'row'"),
]


def test_files_without_rows(tmp_path: Path) -> None:
    pq.write_table(predictions(0).slice(0, 0), tmp_path / "a.parquet")
    with pytest.raises(ComparisonError, match="a.parquet have no rows to compare"):
        compare(tmp_path / "a.parquet", tmp_path / "a.parquet")


@pytest.mark.parametrize(("change", "message"), DAMAGES)
def test_files_of_other_rows(tmp_path: Path, change: Callable[[pa.Table], pa.Table], message: str) -> None:
    with pytest.raises(ComparisonError, match=message):
        compare(*write(tmp_path, change))


@pytest.mark.parametrize(
    ("dropped", "message"),
    [
        (["click", "conversion"], "no label column 'click'"),
        (["p_click", "p_conversion", "p_conversion_given_click"], "p_"),
    ],
)
def test_files_without_labels_or_predictions(tmp_path: Path, dropped: list[str], message: str) -> None:
    pq.write_table(predictions(0).drop_columns(dropped), tmp_path / "a.parquet")
    with pytest.raises(FunnelcastError, match=re.escape(message)):
        compare(tmp_path / "a.parquet", tmp_path / "a.parquet")


@pytest.mark.parametrize("name", ["a.csv", "nowhere.parquet", "damaged.parquet"])
def test_what_is_no_prediction_file(tmp_path: Path, name: str) -> None:
    content: dict[str, Any] = {"a.csv": b"p_click\n1", "damaged.parquet": b"PAR1 no"}
    if name in content:
        (tmp_path / name).write_bytes(content[name])
    with pytest.raises(FunnelcastError, match=name):
        compare(tmp_path / name, tmp_path / name)
