"""Experiments by name or file, and files that start from others."""

from __future__ import annotations

from pathlib import Path

import pytest

from funnelcast.boosting.lightgbm import LightGBM
from funnelcast.errors import ConfigError
from funnelcast.experiments.experiment import Experiment, experiment_of
from funnelcast.models.network import NetworkRecipe

ROOT = Path(__file__).parents[2]


def written(folder: Path, text: str, name: str = "own.toml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_file_changes_some_settings_of_its_base(tmp_path: Path) -> None:
    text = 'base = "recommended"\nunknown_ids = 3.0\n[model]\nmembers = 8\n[model.statistics]\nfolds = 4\n'
    found, base = Experiment.from_toml(written(tmp_path, text), seed=7), experiment_of("recommended")
    assert (found.unknown_ids, found.seed, found.optimizer) == (3.0, 7, base.optimizer)
    model, before = found.model, base.model
    assert isinstance(model, NetworkRecipe) and isinstance(before, NetworkRecipe)
    assert model.statistics is not None and before.statistics is not None
    statistics = before.statistics.model_copy(update={"folds": 4})
    assert model == before.model_copy(update={"members": 8, "statistics": statistics})


def test_settings_in_python_start_from_a_base_too() -> None:
    found = Experiment.from_dict({"base": "recommended", "unknown_ids": 1.0})
    assert found == experiment_of("recommended").model_copy(update={"unknown_ids": 1.0})


def test_false_leaves_a_table_out_and_another_model_is_no_change_of_the_first(tmp_path: Path) -> None:
    found = experiment_of(written(tmp_path, 'base = "recommended"\nstacking = false\n[model]\nstatistics = false\n'))
    assert found.stacking is None and isinstance(found.model, NetworkRecipe) and found.model.statistics is None
    named = experiment_of(written(tmp_path, 'base = "recommended"\n[stacking]\nname = "lightgbm"\nrounds = 7\n'))
    base = experiment_of("recommended").stacking
    assert base is not None and named.stacking == base.model_copy(update={"rounds": 7})
    text = 'base = "recommended"\nstacking = false\noptimizer = false\nstages = [{}]\nunknown_ids = 0.0\n'
    found = experiment_of(written(tmp_path, text + '[model]\nname = "lightgbm"\nrounds = 5\n'))
    assert found.model == LightGBM(rounds=5)


def test_a_base_is_a_file_beside_the_one_that_names_it_and_may_have_a_base(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    written(tmp_path, 'base = "recommended"\nunknown_ids = 2.0\nseed = 3\n', "first.toml")
    found = experiment_of(written(tmp_path / "below", 'base = "../first.toml"\nseed = 4\n'))
    assert (found.unknown_ids, found.seed) == (2.0, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('base = "recomended"\n', r"own.toml.*\n? *base: recomended does not exist; did you mean 'recommended'"),
        ("base = 3\n", "give the name of a preset"),
        ('base = "own.toml"\n', "starts from this file itself"),
        ('base = "recommended"\n[model]\nmember = 2\n', "model.member"),
        ('base = "recommended"\nstages = false\n', "stages"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        experiment_of(written(tmp_path, text))


@pytest.mark.parametrize("file", sorted((ROOT / "experiments" / "parts").glob("*.toml")), ids=lambda file: file.stem)
def test_every_part_that_is_measured_differs_from_the_default(file: Path) -> None:
    assert experiment_of(file) != experiment_of("recommended").model_copy(update={"name": file.stem})
