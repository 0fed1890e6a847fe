"""Files of benchmarks, and what is told of their faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from funnelcast.benchmarks.suite import Suite, slug
from funnelcast.errors import ConfigError
from tests.benchmarks.suites import write_suite

TABLES = sorted((Path(__file__).parents[2] / "experiments/tables").glob("*.toml"))


def test_models_are_read_from_beside_the_file_or_by_the_names_of_presets(tmp_path: Path) -> None:
    models = {"ours": "models/mmoe.toml", "MAN": "man-paper"}
    suite, experiments = Suite.read(write_suite(tmp_path, models=models), seeds=3)
    assert suite.base == "ours" and suite.seeds == 3
    assert [experiment.model.name for experiment in experiments.values()] == ["mmoe", "man"]


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_shipped_tables(path: Path) -> None:
    suite, experiments = Suite.read(path)
    assert suite.base in experiments and (suite.source or suite.sources) and len(path.read_text().splitlines()) <= 25


@pytest.mark.parametrize(("changes", "message"), [
    ({"models": {}}, "models"),
    ({"models": {"a b": "man-paper", "A-B": "man-paper"}}, "'a b' and 'A-B' would share the folder a-b"),
    ({"models": {"†": "man-paper"}}, "has no letter or digit"),
    ({"reference": "MMOE"}, "did you mean 'MMoE'?"),
    ({"seeds": 0}, "seeds: 0 is not allowed"),
    ({"sources": ["oulad", "hotel"], "source": "oulad"}, "source: is of one data set"),
    ({"sources": ["oulad", "oulad"]}, "oulad, oulad names a data set twice"),
    ({"sources": ["oulad", "ali-ccp"]}, "ali-ccp cannot be made"),
    ({"sources": ["ulad"]}, "did you mean 'oulad'?"),
    ({"source": "aliccp"}, "did you mean 'ali-ccp'?"),
    ({"models": {"MAN": "models/man.toml"}}, "model 'MAN'"),
    ({"modles": {}}, "did you mean 'models'?"),
])  # fmt: skip
def test_faults(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Suite.read(write_suite(tmp_path, **changes))
    assert message in str(caught.value)


def test_a_fault_of_an_experiment_names_it_and_the_suite(tmp_path: Path) -> None:
    path = write_suite(tmp_path)
    (tmp_path / "models/mmoe.toml").write_text('model = {name = "mmoe", expert = 3}')
    with pytest.raises(ConfigError) as caught:
        Suite.read(path)
    assert all(part in str(caught.value) for part in ("suite.toml", "MMoE", "mmoe.toml", "model.expert"))


def test_folders_of_names() -> None:
    assert slug("without meta, attention") == "without-meta-attention"


def test_the_heading_says_what_rows_are_made(tmp_path: Path) -> None:
    path = write_suite(tmp_path, title="Two models", source="ali-ccp")
    assert Suite.read(path)[0].heading == "Two models"
    made = Suite.read(path, source="generated", rows=20_000)[0]
    assert made.heading == "Two models on a generated log of 20,000 rows in Ali-CCP's format"
    assert Suite.read(path, source=None)[0].heading == "Two models"
    assert Suite.read(write_suite(tmp_path))[0].heading == "small"
