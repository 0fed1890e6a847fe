"""Training rows are parted as the schema's split parts train, dev and test."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest

from funnelcast.data.log.prepare import prepare
from funnelcast.data.table import Table
from funnelcast.experiments.baselines.measure import Baselines
from funnelcast.experiments.crosses import find_crosses, with_crosses
from funnelcast.experiments.experiment import Experiment
from funnelcast.experiments.folds import with_folds
from funnelcast.models.network import NetworkRecipe
from funnelcast.schema.dataset import Schema

FEATURES = {"user": "categorical", "x": "categorical"}


def table_of(folder: Path, split: dict[str, Any], **more: Any) -> Table:
    """Every user has six rows, which all click or do not; a feature tells less, and of users never seen alone."""
    schema = {"name": "users", "funnel": "click", "features": FEATURES, "split": split, **more}
    rng = np.random.default_rng(0)
    clicks = rng.integers(0, 2, 1000)
    user = rng.permutation(np.repeat(np.arange(1000), 6))
    click = clicks[user]
    x = np.where(rng.random(6000) < 0.75, click, 1 - click)
    prepare(
        Schema.from_dict(schema), folder, train=pa.table({"user": user, "x": x, "day": user // 100, "click": click})
    )
    return Table.open(folder)


BY_USER = {"by": "group", "column": "user", "dev": 0.2, "test": 0.2}


def test_rows_of_a_key_are_in_one_fold(tmp_path: Path) -> None:
    table = table_of(tmp_path / "table", BY_USER)
    rows = with_folds(table, table.part("train"), 5, 0)
    assert rows.fold is not None and set(rows.fold) == set(range(5))
    parted = set(zip(rows.ids[:, 0], rows.fold, strict=True))
    assert len(parted) == len(set(rows.ids[:, 0]))


@pytest.mark.parametrize("keep", [["day"], []])
def test_folds_follow_time(tmp_path: Path, keep: list[str]) -> None:
    table = table_of(tmp_path / "table", {"by": "time", "column": "day", "dev": 0.2, "test": 0.2}, keep=keep)
    rows = with_folds(table, table.part("train"), 3, 0)
    assert rows.fold is not None
    if keep:
        days = np.asarray(table.side("train")["day"])
        assert len(set(zip(days, rows.fold, strict=True))) == len(set(days))
        assert np.all(np.diff(rows.fold[np.argsort(days, kind="stable")].astype(int)) >= 0)
    else:
        assert np.all(np.diff(rows.fold.astype(int)) >= 0)


def test_baselines_do_not_rely_on_a_key_that_test_rows_do_not_have(tmp_path: Path) -> None:
    """With folds drawn at random a training row would read its user's other rows, which tell everything."""
    table = table_of(tmp_path / "table", BY_USER)
    columns, baselines = table.part("test"), Baselines(table)
    constant = np.full((len(columns), 1), np.log(0.5), np.float32)
    found = baselines.compared("test", constant, constant)["click"]["figures"]
    for name in ("best column", "logistic regression"):
        assert found[name]["auc"]["estimate"] > 0.7, name


def test_no_pair_is_chosen_that_only_tells_a_key_which_test_rows_do_not_have(tmp_path: Path) -> None:
    """Each user has a pair of values of its own, and a rate of its own; with folds at random the pair tells it."""
    rng = np.random.default_rng(0)
    user = rng.permutation(np.repeat(np.arange(100), 80))
    click = rng.random(8000) < rng.random(100)[user]
    log = pa.table({"user": user, "a": user // 10, "b": user % 10, "click": click.astype(int)})
    features = {"a": "categorical", "b": "categorical"}
    schema = {"name": "users", "funnel": "click", "features": features, "split": BY_USER, "keep": ["user"]}
    prepare(Schema.from_dict(schema), tmp_path / "table", train=log)
    table = Table.open(tmp_path / "table")
    assert find_crosses(table.encoder, table.part("train"), 1) == (("a", "b"),)
    model = {"name": "shared_bottom", "statistics": {"crosses": 1}}
    chosen = cast(NetworkRecipe, with_crosses(Experiment.from_dict({"model": model}), table, table.encoder).model)
    assert chosen.statistics is not None and chosen.statistics.crosses == ()
