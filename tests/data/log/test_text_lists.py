"""Lists that stand as texts in a CSV or in Parquet: to the same table as lists, and what is said of bad ones."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from funnelcast.data.columns import Columns, Ragged
from funnelcast.data.encoder import Encoder
from funnelcast.data.log.prepare import prepare, quarantine_path
from funnelcast.data.log.rows import read_rows
from funnelcast.data.table import Table
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.errors import DataError
from tests.data.log.test_csv_source import NUMBERS
from tests.data.log.test_prepare import listed, parquet, schema, text, vocabulary

FEATURES: dict[str, Any] = {
    "item": {"vocabulary": "items"},
    "seen": {"kind": "sequence", "vocabulary": "items", "max_length": 3, "separator": "|"},
    "tags": {"kind": "multi", "weights": "tw", "separator": "|"},
}
TAGS = {"tags": FEATURES["tags"]}
SEEN = {"seen": {"kind": "sequence", "separator": "|"}}


def draw(rows: int, seed: int = 0) -> pa.Table:
    """Ids that are whole numbers and ids that are words; lists with gaps, empty ones and missing ones. A list of one
    missing id is not there, as a text cannot say it."""
    rng = np.random.default_rng(seed)

    def lists(values: list[Any], lengths: Any) -> list[list[Any] | None]:
        known = [[*values, None] if length > 1 else values for length in lengths]
        drawn = [[at[i] for i in rng.integers(0, len(at), n)] for at, n in zip(known, lengths, strict=True)]
        return [each if each or rng.random() < 0.5 else None for each in drawn]

    tagged = rng.integers(0, 5, rows)
    columns = {
        "item": rng.integers(0, 50, rows),
        "seen": pa.array(lists([*range(-9, 60)], rng.integers(0, 8, rows)), pa.list_(pa.int64())),
        "tags": lists([*(f"t{i}" for i in range(30)), "07", "NA"], tagged),
        "tw": lists([0.5, 1.0, -2.25, 1e-3], tagged),
        "click": rng.integers(0, 2, rows),
        "t": pa.array(rng.permutation(rows) * 1_000_000, pa.timestamp("us", "Europe/Berlin")),
    }
    return pa.table({**columns, "buy": np.zeros(rows, int)})


def as_texts(log: pa.Table, separator: str = "|") -> pa.Table:
    """The same with each list as a text."""
    for i, field in enumerate(log.schema):
        if pa.types.is_list(field.type):
            rows = log.column(i).to_pylist()
            written = [None if r is None else separator.join("" if v is None else str(v) for v in r) for r in rows]
            log = log.set_column(i, field.name, pa.array(written, pa.string()))
    return log


def write(path: Path, log: pa.Table) -> Path:
    pa.csv.write_csv(log, path) if path.suffix == ".csv" else pq.write_table(log, path, row_group_size=5000)
    return path


@pytest.mark.slow
def test_texts_in_csv_and_parquet_and_lists_are_one_table(tmp_path: Path) -> None:
    """More rows than a batch, parted by a time with a zone, test rows of another file; to the last checksum."""
    found = schema(FEATURES, split={"by": "time", "column": "t", "dev": 0.1, "test": 0}, keep=["t"])
    for name, change in (("lists.parquet", pa.table), ("texts.parquet", as_texts), ("texts.csv", as_texts)):
        train = write(tmp_path / f"train-{name}", pa.concat_tables([change(draw(2000))] * 33))
        test = write(tmp_path / f"test-{name}", change(draw(900, seed=1)))
        prepare(found, tmp_path / name, train=train, test=test)
    one, other, of_csv = (Table.open(tmp_path / name) for name in ("lists.parquet", "texts.parquet", "texts.csv"))
    assert one.encoder.vocabularies["items"].is_integer and vocabulary(one, "tags")[:2] == ["07", "NA"]
    assert one.protocol == other.protocol == of_csv.protocol
    assert one.manifest["counts"] == other.manifest["counts"] == of_csv.manifest["counts"]
    for part in ("train", "dev", "test"):
        assert one.side(part).equals(other.side(part))
        for name in ("seen", "tags"):
            lists = [table.part(part).ragged[name] for table in (one, other, of_csv)]
            assert len({(each.offsets.tobytes(), each.ids.tobytes(), weights(each).tobytes()) for each in lists}) == 1
            assert lists[0].ids.any() and not lists[0].ids.all()
            assert len(np.unique(weights(lists[0]))) == 5 * (name == "tags")


def weights(lists: Ragged) -> NDArray[np.float32]:
    """None are no weights."""
    return np.zeros(0, np.float32) if lists.weights is None else np.asarray(lists.weights)


def test_empty_missing_and_trailing(tmp_path: Path) -> None:
    rows = ["7|8|,,", ",a,1", "|,a|,1|", "NA|7.0,NA|a,NA|0", '"8","",""']
    log = text(tmp_path / "a.csv", "seen,tags,tw,click,buy\n" + "".join(f"{row},0,0\n" for row in rows))
    prepare(schema(SEEN | TAGS), tmp_path / "out", train=log)
    table = Table.open(tmp_path / "out")
    seen, tags = (table.part("train").ragged[name] for name in ("seen", "tags"))
    assert (vocabulary(table, "seen"), vocabulary(table, "tags")) == ([7, 8], ["NA", "a"])
    assert (seen.offsets.tolist(), seen.ids.tolist()) == ([0, 3, 3, 5, 7, 8], [1, 2, 0, 0, 0, 0, 1, 2])
    assert (tags.offsets.tolist(), tags.ids.tolist()) == ([0, 0, 1, 3, 5, 5], [2, 2, 0, 1, 2])
    assert weights(tags).tolist() == [1, 1, 0, 0, 0]


def test_bad_weights_are_bad_rows(tmp_path: Path) -> None:
    rows = ["a|b,1|2", "a|b,1", "a,1|", ",1", "a|b,", "a|b,1|x", "a,1;5"] + ["a|b,0.5|1e1"] * 20
    log = text(tmp_path / "a.csv", "tags,tw,click,buy\n" + "".join(f"{row},0,0\n" for row in rows))
    counts = prepare(schema(TAGS), tmp_path / "out", train=log, max_bad=0.5)["counts"]
    uneven, no_number = "tw differs in length from its ids", "tw is not a number"
    expected = [(line, uneven) for line in "3456"] + [(line, no_number) for line in "78"]
    assert listed(tmp_path / "out") == [("a.csv", line, reason) for line, reason in expected]
    assert (counts[f"quarantined: {uneven}"], counts[f"quarantined: {no_number}"]) == (4, 2)
    tags = Table.open(tmp_path / "out").part("train").ragged["tags"]
    assert weights(tags).tolist() == [1, 2] + [0.5, 10] * 20
    assert "tags=['a', 'b'], tw=[1, x]" in quarantine_path(tmp_path / "out").read_text()
    pq.write_table(pa.csv.read_csv(log), tmp_path / "a.parquet")
    prepare(schema(TAGS), tmp_path / "out", train=tmp_path / "a.parquet", max_bad=0.5, replace=True)
    assert listed(tmp_path / "out") == [("a.parquet", str(int(line) - 1), reason) for line, reason in expected]


def test_weights_that_are_mostly_no_numbers_stop_the_run(tmp_path: Path) -> None:
    log = text(tmp_path / "a.csv", "tags,tw,click,buy\na|b,x|1,0,0\na,y,0,0\n")
    expected = (
        "the weights of feature 'tags': column 'tw' holds text such as 'x', but numbers are needed; mend the column"
    )
    with pytest.raises(DataError) as raised:
        prepare(schema(TAGS), tmp_path / "out", train=log)
    assert str(raised.value).endswith(f"\n  {expected}")


def test_whole_numbers_are_integers_in_all_files_or_in_none(tmp_path: Path) -> None:
    """As a single id in a CSV; Parquet has no type for them either, where a list is a text."""
    train = text(tmp_path / "a.csv", "seen,click,buy\n7|8|5.0,0,0\n7|x,0,0\n,0,0\n")
    other = parquet(tmp_path / "b.parquet", {"seen": ["8|9"]})
    counts = prepare(schema(SEEN), tmp_path / "out", train=other, dev=train)["counts"]
    assert counts["seen is text, not integers, for 'x' in line 3 of a.csv"] == 1
    assert vocabulary(Table.open(tmp_path / "out"), "seen") == ["8", "9"]
    assert Table.open(tmp_path / "out").part("dev").ragged["seen"].ids.tolist() == [0, 1, 0, 0, 0]
    text(train, "seen,click,buy\n7|8|8.0,0,0\n")
    prepare(schema(SEEN), tmp_path / "out", train=other, dev=train, replace=True)
    assert vocabulary(Table.open(tmp_path / "out"), "seen") == [8, 9]
    assert Table.open(tmp_path / "out").part("dev").ragged["seen"].ids.tolist() == [0, 1, 1]


def test_texts_beside_lists_and_beside_single_ids(tmp_path: Path) -> None:
    """Lists of integers in one file, texts in the other; a list and an item that share ids."""
    lists = parquet(
        tmp_path / "a.parquet", {"item": [7, 8], "seen": [[7], [8, 7]], "tags": [["a"], []], "tw": [[1], []]}
    )
    texts = text(tmp_path / "b.csv", "item,seen,tags,tw,click,buy\n8,8|9|7,a|b,1|2,0,0\n")
    for train, test in ((lists, texts), (texts, lists)):
        prepare(schema(FEATURES), tmp_path / "out", train=train, test=test, replace=True)
        table = Table.open(tmp_path / "out")
        assert vocabulary(table, "items") == [7, 8] + [9] * (train == texts)
        assert table.part("train" if train == lists else "test").ragged["seen"].ids.tolist() == [1, 2, 1]


def of_csv(rows: pa.Table, encoder: Encoder, folder: Path) -> Columns:
    """The rows of a CSV as `predict` reads them."""
    (batch,) = read_rows(write(folder / "rows.csv", rows), encoder, folder / "out.csv")
    return encoder.encode(batch)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.lists(st.text("07|.- x", max_size=6) | st.none(), min_size=1, max_size=20))
def test_the_engine_and_the_encoder_take_the_same_for_whole_numbers(texts: list[str | None]) -> None:
    seven = "|".join(["7"] * 150)  # most are whole numbers, as else the file is refused
    rows = pa.table({"seen": [*texts, seven, "7.0|-7.0|0.0|-0|07|70"]})
    values = Vocabulary(pa.array([-7, 0, 7, 70, 777]))
    encoder = Encoder(schema(SEEN, funnel="click"), {"seen": values}, {})
    with tempfile.TemporaryDirectory() as folder:
        read = of_csv(rows, encoder, Path(folder)).ragged["seen"]
    raw = encoder.encode(rows.to_batches()[0]).ragged["seen"]
    assert (raw.offsets.tolist(), raw.ids.tolist()) == (read.offsets.tolist(), read.ids.tolist())
    assert raw.ids.tolist()[-6:] == [3, 1, 2, 0, 0, 4]


def test_the_engine_and_the_encoder_take_the_same_for_numbers(tmp_path: Path) -> None:
    numbers = [number for number in NUMBERS if number != "1_000"]  # which Arrow does not know
    texts = [*numbers, "NA", "null", "true", "False"]
    rows = pa.table({"tags": ["|".join("a" * len(texts))], "tw": ["|".join(texts)]})
    encoder = Encoder(schema(TAGS, funnel="click"), {"tags": Vocabulary(pa.array(["a"]))}, {})
    raw, read = encoder.encode(rows.to_batches()[0]), of_csv(rows, encoder, tmp_path)
    assert weights(raw.ragged["tags"]).tolist() == weights(read.ragged["tags"]).tolist()
    assert weights(raw.ragged["tags"])[:6].tolist() == [5, 5, 5, 5, 5, -5]
