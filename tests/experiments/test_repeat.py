"""Several seeds of one experiment, and their mean."""

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from funnelcast.errors import FunnelcastError
from funnelcast.experiments.experiment import Experiment
from funnelcast.experiments.repeat import summarise, train_seeds
from funnelcast.serving.bundle import Bundle
from tests import tiny

EXPERIMENT = """
name = "tiny"
seed = 5
workers = 1
stages = [{epochs = 1}]
model = {name = "shared_bottom", expert = [4], tower = [4], tower_dropout = []}
"""


def test_seeds_are_trained_each_in_its_folder_and_only_once(tmp_path: Path) -> None:
    table = tiny.write_table(tmp_path / "table")
    (tmp_path / "e.toml").write_text(EXPERIMENT)
    two = train_seeds(tmp_path / "e.toml", table.folder, 2, out=tmp_path / "out")
    calls: list[Any] = []
    three = train_seeds(tmp_path / "e.toml", table.folder, 3, out=tmp_path / "out", progress=lambda *a: calls.append(a))
    assert two["seeds"] == [5, 6] and three["seeds"] == [5, 6, 7]
    assert three["bundles"] == [str(tmp_path / f"out/seed-{seed}/bundle") for seed in (5, 6, 7)]
    calls = [call for call in calls if call[0] != "baselines"]
    assert len(calls) == 2  # one batch and one epoch, of the third seed
    assert json.loads((tmp_path / "out/summary.json").read_text()) == three
    bundles = [Bundle.load(folder) for folder in three["bundles"]]
    assert len({bundle.fingerprint for bundle in bundles}) == 3
    aucs = [bundle.metrics["test"]["click"]["auc"]["estimate"] for bundle in bundles]
    figure = three["mean"]["test"]["click"]["auc"]
    assert figure["mean"] == pytest.approx(statistics.mean(aucs)) and figure["std"] == pytest.approx(
        statistics.stdev(aucs)
    )


def test_one_seed_has_the_folder_for_itself(tmp_path: Path) -> None:
    table = tiny.write_table(tmp_path / "table")
    (tmp_path / "e.toml").write_text(f'data = "{table.folder}"' + EXPERIMENT)
    summary = train_seeds(tmp_path / "e.toml", out=tmp_path / "out")
    assert summary["bundles"] == [str(tmp_path / "out/bundle")]
    assert summary["mean"]["dev"]["click"]["log_loss"]["std"] is None


def test_an_experiment_and_folders_as_texts(tmp_path: Path) -> None:
    table = tiny.write_table(tmp_path / "table")
    (tmp_path / "e.toml").write_text(EXPERIMENT)
    first = train_seeds(str(tmp_path / "e.toml"), str(table.folder), out=str(tmp_path / "a"))
    other = train_seeds(Experiment.from_toml(tmp_path / "e.toml"), table, init=first["bundles"][0], out=tmp_path / "b")
    assert first["seeds"] == other["seeds"] and first["mean"] != other["mean"]


def test_an_output_that_is_a_file(tmp_path: Path) -> None:
    table = tiny.write_table(tmp_path / "table")
    (tmp_path / "e.toml").write_text(EXPERIMENT)
    for seeds in (1, 2):
        with pytest.raises(FunnelcastError, match="e.toml is a file; choose a folder"):
            train_seeds(tmp_path / "e.toml", table.folder, seeds, out=tmp_path / "e.toml")


def test_a_misspelt_preset() -> None:
    with pytest.raises(FunnelcastError, match="recomended: does not exist; did you mean 'recommended'?"):
        train_seeds("recomended")


def test_an_experiment_without_data(tmp_path: Path) -> None:
    (tmp_path / "e.toml").write_text(EXPERIMENT)
    with pytest.raises(FunnelcastError, match='names no data; add `data = "TABLE"`, or give --data TABLE'):
        train_seeds(tmp_path / "e.toml", out=tmp_path / "out")


def test_a_figure_that_one_run_lacks_has_no_mean() -> None:
    def figures(value: float | None) -> dict[str, Any]:
        names = ("log_loss", "normalised_entropy", "calibration_error", "observed_over_predicted")
        return {"dev": {"click": {"auc": {"estimate": value}, **dict.fromkeys(names, 1.0)}}}

    mean = summarise([figures(0.5), figures(None)])["dev"]["click"]
    assert mean["auc"] == {"mean": None, "std": None}
    assert mean["log_loss"] == {"mean": 1.0, "std": 0.0}
