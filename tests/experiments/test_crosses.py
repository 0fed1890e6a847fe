"""Pairs that tell more than their features alone are found, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest

from funnelcast.boosting.stacked import network_of
from funnelcast.data.log.prepare import prepare
from funnelcast.data.table import Table
from funnelcast.errors import ConfigError
from funnelcast.experiments import crosses
from funnelcast.experiments.baselines.rows import FOLDS
from funnelcast.experiments.crosses import find_crosses, with_crosses
from funnelcast.experiments.experiment import Experiment
from funnelcast.experiments.run import train
from funnelcast.models.network import NetworkRecipe
from funnelcast.schema.dataset import Schema

SCHEMA = Schema.from_dict(
    {
        "name": "crossed",
        "funnel": "click; conversion after click",
        "features": {"a": "categorical", "b": "categorical", "c": "categorical", "x": "numeric", "y": "numeric"},
        "weight": "weight",
        "split": {"dev": 0.1},
    }
)
MODEL: dict[str, Any] = {"name": "shared_bottom", "expert": [4], "tower": [2], "tower_dropout": []}


def draw(rows: int, interaction: float, seed: int = 0) -> pa.Table:
    """Clicks follow a, b and their pair, conversions x and the sign of x · y."""
    rng = np.random.default_rng(seed)
    a, b, c = rng.integers(0, 8, (3, rows))
    x, y = rng.integers(-2, 3, (2, rows)).astype(float)
    of_pairs = rng.normal(size=(8, 8))[a, b]
    click = rng.random(rows) < 1 / (1 + np.exp(1 - np.sin(a) - np.cos(b) - interaction * of_pairs))
    conversion = click & (rng.random(rows) < 1 / (1 + np.exp(1 - x - interaction * np.sign(x * y))))
    columns = {"a": a, "b": b, "c": c, "x": x, "y": y, "weight": rng.integers(0, 3, rows).astype(float)}
    return pa.table(columns | {"click": click.astype(int), "conversion": conversion.astype(int)})


def table_of(folder: Path, rows: int, interaction: float) -> Table:
    prepare(SCHEMA, folder, train=draw(rows, interaction), test=draw(10, interaction, 1))
    return Table.open(folder)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return table_of(tmp_path_factory.mktemp("crosses") / "table", 8000, 0.8)


def test_planted_pairs_are_found_the_stronger_one_first(table: Table) -> None:
    assert find_crosses(table.encoder, table.part("train"), 8) == (("a", "b"), ("x", "y"))
    assert find_crosses(table.encoder, table.part("train"), 1) == (("a", "b"),)
    assert find_crosses(table.encoder, table.part("train"), 0) == ()


def test_where_features_only_add_up_no_pair_is_chosen(tmp_path: Path) -> None:
    table = table_of(tmp_path / "table", 8000, 0.0)
    assert find_crosses(table.encoder, table.part("train"), 8) == ()


def test_pairs_of_which_most_rows_are_rare_are_left_out(table: Table) -> None:
    few = table.part("train").take(np.arange(2000))  # 31 with each pair of a and b
    assert ("a", "b") not in find_crosses(table.encoder, few, 8)
    codes = np.array([[1, 1, 1, 2, 2], [1, 1, 1, 1, 5]])
    assert crosses._rows_alike(codes, (0, 1)) == 3


def test_few_rows_choose_nothing_and_one_class_is_no_error(tmp_path: Path) -> None:
    log = draw(300, 0.8)
    log = log.set_column(log.column_names.index("conversion"), "conversion", pa.array([0] * 300))
    prepare(SCHEMA, tmp_path / "table", train=log, test=log.slice(0, 10))
    table = Table.open(tmp_path / "table")
    assert find_crosses(table.encoder, table.part("train"), 8) == ()


def test_a_correction_is_newtons_step_on_the_rows_of_other_folds() -> None:
    rng = np.random.default_rng(0)
    codes, folds = rng.integers(1, 4, (2, 200)), rng.integers(0, FOLDS, 200)
    y, weight, logits = (
        rng.integers(0, 2, 200).astype(float),
        rng.integers(1, 3, 200).astype(float),
        rng.normal(size=200),
    )
    step = crosses._Step(np.arange(200), folds, y, weight, logits, 0.5)
    found = step.correction(codes, (0, 1))
    p = 1 / (1 + np.exp(-logits))
    for i in range(200):
        others = (codes[0] == codes[0, i]) & (codes[1] == codes[1, i]) & (folds != folds[i])
        slope, curve = (weight * (y - p))[others].sum(), (weight * p * (1 - p))[others].sum()
        assert found.of_rows[i] == pytest.approx(slope / (curve + crosses.STRENGTH))
    moved = logits + 1e-3 * found.of_rows
    loss = [weight * np.log1p(np.exp(-np.where(y == 1, z, -z))) for z in (logits, moved)]
    slopes = (loss[0] - loss[1]) / 1e-3
    curves = weight * p * (1 - p) * found.of_rows**2
    assert found.gains == pytest.approx(slopes - curves / 2, abs=1e-3)


def test_a_run_trains_with_the_pairs_and_its_bundle_names_them(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = Experiment.from_dict(
        {"model": MODEL | {"statistics": {"crosses": 1}}, "stages": [{"epochs": 1}], "workers": 1}
    )
    run = train(experiment, table, tmp_path / "run", parts=("dev",), baselines=False)
    layer = network_of(run.bundle.model).statistics
    assert layer is not None and list(layer.crosses.values()) == [("a", "b")]
    assert run.bundle.experiment["model"]["statistics"]["crosses"] == [["a", "b"]]
    monkeypatch.setattr(crosses, "find_crosses", None)
    started = with_crosses(experiment, table, table.encoder, run.bundle)
    statistics = cast(NetworkRecipe, started.model).statistics
    assert statistics is not None and statistics.crosses == (("a", "b"),)


def test_a_number_of_pairs_below_0_is_refused() -> None:
    with pytest.raises(ConfigError, match="crosses"):
        Experiment.from_dict({"model": MODEL | {"statistics": {"crosses": -1}}})
