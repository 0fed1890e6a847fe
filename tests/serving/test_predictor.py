"""Predicting raw rows in every form they come in, and what is said of rows that cannot be predicted."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import funnelcast
from funnelcast.data.encoder import Encoder
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.errors import FunnelcastError, InputError
from funnelcast.evaluation.funnel import conditional
from funnelcast.evaluation.score import score
from funnelcast.kernels.cpu import why_no_bfloat16
from funnelcast.schema.dataset import Schema
from funnelcast.serving.predictor import Predictor, load
from tests import tiny
from tests.serving.test_bundle import bundle_of

COLUMNS = ["p_click", "p_conversion", "p_conversion_given_click"]
LOG = tiny.draw_log(50)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(bundle_of())


def test_the_columns_are_those_of_the_funnel_and_agree(predictor: Predictor) -> None:
    p = predictor.predict(LOG.to_pandas())
    assert list(p.columns) == list(predictor.columns) == COLUMNS
    assert ((p > 0) & (p < 1)).all(axis=None)
    np.testing.assert_allclose(p.p_conversion, p.p_click * p.p_conversion_given_click, rtol=1e-6)  # logs are float32
    assert p.p_click.nunique() > 40


def test_every_form_of_the_rows_gives_the_same(predictor: Predictor) -> None:
    arrow = predictor.predict(LOG)
    assert isinstance(arrow, pa.Table)
    frame = LOG.to_pandas().set_index(np.arange(100, 150))
    as_frame = predictor.predict(frame)
    assert as_frame.index.equals(frame.index)
    as_dict = predictor.predict({name: LOG[name].to_pylist() for name in LOG.column_names})
    assert isinstance(as_dict, dict)
    batch = predictor.predict(LOG.combine_chunks().to_batches()[0])
    chunked = predictor.predict(pa.concat_tables([LOG.slice(0, 7), LOG.slice(7)]))
    for name in COLUMNS:
        expected = arrow[name].to_numpy()
        for other in (as_frame[name].to_numpy(), as_dict[name], batch[name].to_numpy(), chunked[name].to_numpy()):
            assert np.array_equal(other, expected)


def test_other_columns_and_their_order_do_not_matter(predictor: Predictor) -> None:
    needed = ["age", "price", "last", "item", "user"]
    assert predictor.predict(LOG.select(needed)).equals(predictor.predict(LOG))
    assert predictor.predict(LOG.append_column("more", LOG["age"])).equals(predictor.predict(LOG))


def test_unknown_ids_and_missing_values_are_one_thing(predictor: Predictor) -> None:
    known = {"user": "u1", "item": 3, "last": 4, "price": 10.0, "age": 33.0}
    rows = [
        known,
        {**known, "user": "nobody"},
        {**known, "user": None},
        {**known, "item": 999},
        {**known, "item": None},
    ]
    p = predictor.predict(pa.Table.from_pylist(rows))["p_click"].to_pylist()
    assert p[1] == p[2] != p[0]
    assert p[3] == p[4] != p[0]
    price = predictor.predict(pa.Table.from_pylist([known, {**known, "price": None}]))["p_click"]
    assert price[0] == price[1]  # 10 is the mean, which a missing price becomes
    empty = pa.table({name: pa.nulls(2) for name in known})
    assert all(0 < value < 1 for value in predictor.predict(empty)["p_conversion"].to_pylist())


def test_pandas_missing_integers_are_floats(predictor: Predictor) -> None:
    frame = LOG.to_pandas().astype({"item": "float64"})
    assert np.array_equal(predictor.predict(frame).p_click, predictor.predict(LOG.to_pandas()).p_click)


def test_categories_are_their_values(predictor: Predictor) -> None:
    """pandas' categories, of numbers, ids and texts, and Arrow's dictionaries."""
    plain = LOG.to_pandas()
    expected = predictor.predict(plain)
    categories = plain.astype({"price": "category", "item": "category", "user": "category", "age": "category"})
    assert predictor.predict(categories).equals(expected)


def test_lists_may_be_texts_where_the_schema_says_what_parts_them() -> None:
    """In a frame, whose missing texts are floats where no row has one, a dict, and for one row."""
    features = {"user": {}, "seen": {"kind": "sequence", "separator": "|"}}
    vocabularies = {"user": Vocabulary(pa.array(["a", "b"])), "seen": Vocabulary(pa.array([7, 8, 9]))}
    schema = Schema.from_dict({"funnel": "click; conversion after click", "features": features})
    model = {"name": "shared_bottom", "tower": [4], "tower_dropout": []}
    predictor = Predictor(bundle_of(encoder=Encoder(schema, vocabularies, {}), model=model))
    users = ["a", "b", None, "b"]
    expected = predictor.predict({"user": users, "seen": [[7, 8], None, [], [9, None, 7]]})["p_click"]
    assert len(np.unique(expected)) == 4
    rows = {"user": users, "seen": ["7|8", None, "", "9||7.0"]}
    for found in (predictor.predict(rows), predictor.predict(pd.DataFrame(rows)), predictor.predict(pa.table(rows))):
        assert np.array_equal(np.asarray(found["p_click"]), expected)
    one = pd.DataFrame({"user": ["b"], "seen": [np.nan]})
    np.testing.assert_allclose(predictor.predict(one).p_click, expected[1], rtol=1e-5)
    with pytest.raises(InputError, match="column 'seen' is '7', not a list of values; for one row, write \\['7'\\]"):
        predictor.predict({"user": ["b"], "seen": "7"})


def test_one_row_and_none(predictor: Predictor) -> None:
    one = predictor.predict(LOG.slice(3, 1))
    np.testing.assert_allclose(one["p_click"][0].as_py(), predictor.predict(LOG)["p_click"][3].as_py(), rtol=1e-5)
    nothing: tuple[Any, ...] = (LOG.slice(0, 0), LOG.slice(0, 0).to_pandas(), {name: [] for name in LOG.column_names})
    for none in nothing:
        p = predictor.predict(none)
        assert [len(p[name]) for name in COLUMNS] == [0, 0, 0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (LOG.drop_columns(["item"]), "lack 1 of the model's 5 columns: item"),
        (LOG.rename_columns({"item": "itm"}), "for 'item', did you mean 'itm'?"),
        (LOG.set_column(0, "user", pa.array(range(50))), "'user' holds int64"),
        (LOG.set_column(1, "item", pa.array(["a"] * 50)), "'item' holds string"),
        (LOG.set_column(3, "price", pa.array(["a"] * 50)), "'price' holds string"),
        (LOG.set_column(1, "item", pa.array([0.5] * 50)), "'item' cannot be read as integers"),
        ({}, "lack 5 of the model's 5 columns"),
        ({"user": ["a"], "item": [1, 2]}, "cannot be read as columns"),
        ({"user": 17}, "column 'user' is 17, not a list of values; for one row, write [17]"),
        ({"user": "u1"}, "column 'user' is 'u1', not a list of values; for one row, write ['u1']"),
        (LOG.append_column("item", LOG["item"]), "the rows have two columns 'item'; rename one"),
        (LOG.to_pandas().iloc[0], "cannot read a Series; give a DataFrame, as frame.iloc[[0]] for one row"),
        ({"user": [1, "a"]}, "cannot be read as columns"),
        ({"item": [[2**63]]}, "cannot be read as columns"),
        (pd.DataFrame({"user": [1, "a"]}), "cannot be read as columns"),
        ([{"user": "u1"}], "cannot read a list; give a DataFrame, an Arrow table or a dict of columns"),
        (None, "cannot read a NoneType"),
    ],
)
def test_rows_that_cannot_be_predicted(predictor: Predictor, rows: Any, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        predictor.predict(rows)


def test_probabilities_are_corrected_for_sampled_negatives() -> None:
    """By Bayes' rule on the odds: those of a click shrink by the share of negatives that was kept."""
    keep = 0.2
    plain, corrected = (Predictor(bundle_of(keep_negatives=k)).predict(LOG.to_pandas()) for k in (1.0, keep))
    odds = plain.p_click / (1 - plain.p_click) * keep
    np.testing.assert_allclose(corrected.p_click, odds / (1 + odds), rtol=1e-5)  # float32 logs
    np.testing.assert_allclose(corrected.p_conversion_given_click, plain.p_conversion_given_click, rtol=1e-5)
    np.testing.assert_allclose(corrected.p_conversion, corrected.p_click * plain.p_conversion_given_click, rtol=1e-5)


def test_independent_heads_give_ratios_of_at_most_one() -> None:
    bundle = bundle_of(model={"name": "shared_bottom", "tower": [4], "tower_dropout": []})
    p = Predictor(bundle).predict(LOG.to_pandas())
    log_p, _ = score(bundle.model, tiny.encoded(LOG, bundle.encoder))
    _, _, cut = conditional(log_p[:, 1], log_p[:, 0])
    assert 0 < cut.sum() < len(LOG)
    expected = np.minimum(1, p.p_conversion / p.p_click)
    np.testing.assert_allclose(p.p_conversion_given_click, expected, rtol=1e-6)  # float32 logs
    assert (p.p_conversion_given_click[cut] == 1).all()


def test_load_from_a_folder(tmp_path: Path) -> None:
    bundle_of().save(tmp_path / "bundle")
    expected = Predictor(bundle_of()).predict(LOG)
    assert load(tmp_path / "bundle").predict(LOG).equals(expected)
    assert funnelcast.load(str(tmp_path / "bundle")).predict(LOG).equals(expected)


@pytest.mark.slow
def test_a_cold_process_loads_neither_pandas_nor_the_engine(tmp_path: Path) -> None:
    bundle_of().save(tmp_path / "bundle")
    pq.write_table(LOG, tmp_path / "rows.parquet")
    rows = {name: LOG[name].to_pylist() for name in LOG.column_names}
    for work in (
        f"len(funnelcast.load('bundle').predict({rows!r})['p_click'])",
        "funnelcast.predict_file('bundle', 'rows.parquet', 'out.parquet')['rows']",
    ):
        code = f"import sys, funnelcast; print({work}, {{'pandas', 'ibis', 'duckdb', 'matplotlib'}} & set(sys.modules))"
        assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=tmp_path).split() == ["50", "set()"]


@pytest.mark.skipif(bool(why_no_bfloat16()), reason=why_no_bfloat16())
def test_products_of_bfloat16_are_near(predictor: Predictor) -> None:
    near, exact = Predictor(bundle_of(), precision="bfloat16").predict(LOG), predictor.predict(LOG)
    for name in COLUMNS:
        found, expected = near[name].to_numpy(), exact[name].to_numpy()
        assert not np.array_equal(found, expected)
        np.testing.assert_allclose(found, expected, rtol=0.1)


def test_a_precision_that_there_is_not() -> None:
    with pytest.raises(FunnelcastError, match="'float16' is not known; take one of float32, bfloat16"):
        Predictor(bundle_of(), precision="float16")  # type: ignore[arg-type]
