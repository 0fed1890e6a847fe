"""A network with boosted trees next to it, from training to predictions."""

import itertools
import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from funnelcast.boosting.stacked import Share, Stacked
from funnelcast.boosting.trees import Constant
from funnelcast.data.progress import Progress
from funnelcast.data.table import Table
from funnelcast.errors import ConfigError
from funnelcast.evaluation.score import score
from funnelcast.experiments.experiment import Experiment
from funnelcast.experiments.repeat import train_seeds
from funnelcast.experiments.run import Run, train
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.predictor import Predictor
from funnelcast.training.adapting import Adapting
from tests.experiments import recommended

STACKING: dict[str, Any] = {"rounds": 5, "min_rows_per_leaf": 5, "loss_space": "given_parent", "folds": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stacking") / "log"


@pytest.fixture(scope="module")
def table(folder: Path) -> Table:
    return recommended.write_table(folder)


def experiment(**changes: Any) -> Experiment:
    settings: dict[str, Any] = {"stacking": STACKING, "keep_negatives": 0.6} | changes
    return recommended.experiment(**settings)


@pytest.fixture(scope="module")
def run(table: Table, folder: Path) -> Run:
    """Whose trees have a share of every step, whatever they brought."""
    found = train(experiment(), table, folder / "run", baselines=False)
    stacked = cast(Stacked, found.bundle.model)
    assert any(not isinstance(step, Constant) for step in stacked.trees.steps)
    stacked.shares = (Share(0.25, 0.1, 0.01), Share(0.5, 0.2, 0.02))
    bundle = replace(found.bundle)
    bundle.save(folder / "bundle")
    return replace(found, bundle=bundle)


def test_a_bundle_that_was_saved_predicts_the_same(run: Run, folder: Path) -> None:
    rows, loaded = pq.read_table(folder / "test.parquet"), Bundle.load(folder / "bundle")
    own, second = Predictor(run.bundle), Predictor(loaded)
    assert own.predict(rows).equals(second.predict(rows)) and loaded.fingerprint == run.bundle.fingerprint
    assert cast(Stacked, loaded.model).shares == cast(Stacked, run.bundle.model).shares
    assert loaded.model.size == run.bundle.model.size > cast(Stacked, loaded.model).network.size
    few = own.predict(rows.slice(0, 3))
    for name in few.column_names:
        assert np.allclose(few[name], own.predict(rows)[name].slice(0, 3), rtol=1e-5)


def test_probabilities_are_between_the_two_models(run: Run, table: Table) -> None:
    stacked, columns = cast(Stacked, run.bundle.model), table.part("test")
    both, network, trees = (score(each, columns)[0][:, 0] for each in (stacked, stacked.network, stacked.trees))
    low, high = np.minimum(network, trees), np.maximum(network, trees)
    assert ((both >= low - 1e-5) & (both <= high + 1e-5)).all() and (high - low).max() > 0.01


def test_without_a_share_it_is_the_network_bit_for_bit(run: Run, table: Table) -> None:
    stacked, columns = cast(Stacked, run.bundle.model), table.part("test")
    alone = stacked.over(stacked.network)
    alone.shares = (Share(), Share())
    assert all(
        np.array_equal(a, b) for a, b in zip(score(alone, columns), score(stacked.network, columns), strict=True)
    )


def clicked(rows: pa.Table) -> pa.Table:
    """The same rows, all of them clicked and none converted."""
    for name, value in (("click", 1), ("conversion", 0)):
        rows = rows.set_column(rows.column_names.index(name), name, pa.array([value] * len(rows), pa.int8()))
    return rows


def test_a_delta_moves_the_network_by_its_part_and_leaves_the_trees(run: Run, folder: Path) -> None:
    rows = clicked(pq.read_table(folder / "train.parquet").slice(0, 200))
    delta, stacked = Predictor(run.bundle).adapt(rows, Adapting(steps=2, prior=2)), cast(Stacked, run.bundle.model)
    network = replace(run.bundle, model=stacked.network)
    moved = []
    for bundle in (run.bundle, network):
        base = Predictor(bundle)
        adapted = base.with_deltas(replace(delta, base=bundle.fingerprint))
        before, after = (each.predict(rows)["p_click"].to_numpy() for each in (base, adapted))
        moved.append(np.log(after / (1 - after)) - np.log(before / (1 - before)))
    assert not delta.is_empty and np.abs(moved[1]).max() > 1e-3
    assert np.allclose(moved[0], (1 - stacked.shares[0].trees) * moved[1], atol=1e-4)


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(table: Table, tmp_path: Path) -> None:
    quick: dict[str, Any] = {"parts": ("dev",), "baselines": False}
    calls = list[str]()
    whole = train(experiment(), table, tmp_path / "whole", **quick, progress=lambda *said: calls.append(said[0]))
    call = max(i for i, stage in enumerate(calls) if stage.startswith("step "))
    counted = itertools.count()

    def stop(*_: Any) -> None:
        if next(counted) == call:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(experiment(), table, tmp_path / "killed", **quick, progress=cast(Progress, stop))
    assert (tmp_path / "killed" / "trees").is_dir()
    resumed = train(experiment(), table, tmp_path / "killed", **quick)
    assert resumed.bundle.fingerprint == whole.bundle.fingerprint
    left = {path.name for path in (tmp_path / "killed").iterdir()}
    assert left == {"bundle", "experiment.json", "log.jsonl", "results.json"}


def test_what_trees_bring_is_said(table: Table, tmp_path: Path) -> None:
    summary = train_seeds(experiment(), table, 1, None, tmp_path / "run", baselines=False)
    (said,) = summary["stacking"]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    shares = {name: metrics["stacking"] for name, metrics in results["dev"].items() if "stacking" in metrics}
    assert set(shares) == {"click", "conversion_given_click"}
    for name, share in shares.items():
        assert (name in said) == (share["trees"] > 0)
    assert any(share["trees"] for share in shares.values()) or "bring nothing" in said


def test_a_warm_start_takes_the_network_and_fits_trees_again(run: Run, table: Table, tmp_path: Path) -> None:
    found = train(experiment(), table, tmp_path / "warm", init=run.bundle, parts=("dev",), baselines=False)
    assert isinstance(found.bundle.model, Stacked)


def test_what_is_no_network_takes_no_stacking(table: Table) -> None:
    with pytest.raises(ConfigError, match="stacking"):
        Experiment.from_dict({"model": {"name": "lightgbm"}, "stacking": {}}).check(table.encoder)


def test_settings_of_trees_are_checked_beside_the_funnel(table: Table) -> None:
    with pytest.raises(ConfigError, match=r"stacking\.head"):
        experiment(stacking={"head": "chain"}).check(table.encoder)
