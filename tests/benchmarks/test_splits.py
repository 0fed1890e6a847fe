"""Random splits of a small table, and what a benchmark says over them."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from funnelcast.benchmarks.markdown import markdown
from funnelcast.benchmarks.model_run import run_model
from funnelcast.benchmarks.results import results_of
from funnelcast.benchmarks.run_pool import ModelRun
from funnelcast.benchmarks.splits import PARTS, split_tables
from funnelcast.benchmarks.suite import Suite, slug
from funnelcast.data.table import Table
from funnelcast.errors import TableError
from funnelcast.evaluation.repeated_splits import resampled_interval
from funnelcast.evaluation.significance import smallest_difference
from funnelcast.experiments.experiment import Experiment
from tests import tiny
from tests.benchmarks.suites import BOTTOM, MMOE


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return tiny.write_table(tmp_path_factory.mktemp("splits") / "table")


@pytest.fixture(scope="module")
def tables(table: Table, tmp_path_factory: pytest.TempPathFactory) -> list[Table]:
    return split_tables(table, tmp_path_factory.mktemp("made"), 3)


def rows_of(table: Table, parts: tuple[str, ...] = ("train", "dev", "test")) -> list[tuple[object, ...]]:
    """Everything that stands in a row."""
    found = []
    for part in parts:
        columns, side = table.part(part), table.side(part)
        assert columns.labels is not None and columns.weight is not None
        numbers = np.nan_to_num(columns.numeric, nan=-99.0)
        keys = side["campaign"].to_pylist()
        rows = zip(
            columns.ids.tolist(), numbers.tolist(), columns.labels.tolist(), columns.weight.tolist(), keys, strict=True
        )
        found += [tuple(map(str, row)) for row in rows]
    return sorted(found)


def test_each_has_all_rows_once_and_a_fifth_tested(table: Table, tables: list[Table]) -> None:
    for own in tables:
        assert rows_of(own) == rows_of(table)
        assert own.rows("test") == pytest.approx(320 / 5, abs=1) and own.rows("dev") == pytest.approx(25, abs=2)
        reached = [own.manifest["labels"][part]["click"]["reached"] / own.rows(part) for part in ("train", "test")]
        assert reached[0] == pytest.approx(reached[1], abs=0.02)
    assert len({str(rows_of(own, ("test",))) for own in tables}) == 3


def test_what_is_there_is_taken_and_groups_stay_whole(table: Table, tmp_path: Path) -> None:
    first = split_tables(table, tmp_path, 2, "item")
    before = (tmp_path / "1/manifest.json").stat().st_mtime_ns
    assert [t.folder for t in split_tables(table, tmp_path, 3, "item")][:2] == [t.folder for t in first]
    assert (tmp_path / "1/manifest.json").stat().st_mtime_ns == before
    for own in first:
        groups = [set(np.asarray(own.part(part).ids[:, 1]).tolist()) for part in PARTS]
        assert all(groups) and not any(a & b for a, b in combinations(groups, 2))
    with pytest.raises(TableError, match="did you mean 'campaign'"):
        split_tables(table, tmp_path / "other", 2, "campain")


def test_gains_are_over_the_splits(table: Table, tables: list[Table], tmp_path: Path) -> None:
    suite = Suite(name="s", models={"B": Path("b.toml"), "M": Path("m.toml")}, splits=3)
    runs = []
    for seed, own in enumerate(tables):
        for model, text in {"B": BOTTOM, "M": MMOE}.items():
            (tmp_path / "e.toml").write_text(text)
            experiment = Experiment.from_toml(tmp_path / "e.toml", seed=seed, workers=1)
            runs.append(ModelRun(model, seed, experiment, tmp_path / slug(model) / str(seed), own.folder))
            runs[-1].folder.mkdir(parents=True)
            run_model(experiment, own, runs[-1].folder)
    results = results_of(suite, runs, table)
    aucs = {m: results["models"][m]["figures"]["click"]["auc"]["values"] for m in ("B", "M")}
    expected = resampled_interval(np.subtract(aucs["M"], aucs["B"]), 0.2)
    gain = results["models"]["M"]["gains"]["click"]
    assert (gain["estimate"], gain["low"]) == (pytest.approx(expected.estimate), pytest.approx(expected.low))
    assert gain["smallest"] == pytest.approx(smallest_difference(expected.std_error, 2), rel=1e-5)
    assert "3 random splits of all rows" in results["protocol"]["text"]
    assert "corrected resampled t interval" in markdown(results, None)
    assert json.loads(json.dumps(results, allow_nan=False)) == results
