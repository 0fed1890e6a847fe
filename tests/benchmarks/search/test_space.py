"""Spaces of settings, and what is told of their faults."""

from __future__ import annotations

from typing import Any

import pytest

from funnelcast.benchmarks.search.config import Search
from funnelcast.benchmarks.search.space import Range, Space, check, grid, own_values, with_settings
from funnelcast.errors import ConfigError
from funnelcast.experiments.experiment import Experiment

MMOE = Experiment.from_dict({"model": {"name": "mmoe", "tower": [8], "tower_dropout": []}, "stages": [{"patience": 2}]})


def test_settings_are_set_by_their_paths() -> None:
    found = with_settings(MMOE, {"optimizer.l2": 1e-3, "model.tower": [4, 4], "stages.0.epochs": 3}, "MMoE")
    assert found.optimizer.l2 == 1e-3 and found.stages[0].epochs == 3 and found.stages[0].patience == 2
    assert found.model.model_dump()["tower"] == (4, 4)
    assert with_settings(MMOE, {}, "MMoE") == MMOE


def test_the_own_values_are_known_where_the_space_has_them() -> None:
    space: Space = {"optimizer.l2": Range(low=1e-7, high=1e-3, log=True), "model.tower": ([8], [16])}
    assert own_values(space, MMOE) == {"optimizer.l2": 1e-6, "model.tower": [8]}
    assert own_values(space | {"model.experts": (3,)}, MMOE) is None


@pytest.mark.parametrize("path", ["optimizer.clip", "stages.0.learning_rate", "workers"])
def test_an_own_value_that_is_no_number_is_in_no_range(path: str) -> None:
    space: Space = {path: Range(low=1, high=2)}
    assert own_values(space, MMOE) is None
    assert own_values(space, with_settings(MMOE, {path: 2}, "MMoE")) == {path: 2}


def test_an_own_value_that_is_not_there_is_in_no_space() -> None:
    assert own_values({"model.pooling.last.heads": (1, 2)}, MMOE) is None


def test_a_grid_has_every_combination() -> None:
    found = list(grid({"a": (1, 2), "b": ("x", "y", "z")}))
    assert len(found) == 6 and found[0] == {"a": 1, "b": "x"} and found[-1] == {"a": 2, "b": "z"}
    assert list(grid({"a": (1, 1), "b": ([4], [8], [4])})) == [{"a": 1, "b": [4]}, {"a": 1, "b": [8]}]
    with pytest.raises(ConfigError, match=r"space.a: is a range, and a grid needs a list"):
        list(grid({"a": Range(low=1, high=2)}))


@pytest.mark.parametrize(("space", "message"), [
    ({"optimizer.learning_rates": (1,)}, "did you mean 'learning_rate'"),
    ({"optimizer.l2": Range(low=-1.0, high=1.0)}, "optimizer.l2 = -1.0"),
    ({"model.towers": ([8],)}, "did you mean 'tower'"),
    ({"model.tower": ()}, "has no values"),
    ({"stages.0.meta.tasks": (2,)}, "stages.0.meta.tasks: stages.0.meta is not set, so nothing in it can be; give"),
    ({"stages.5.patience": (2,)}, "stages.5: stages is a list of 1; count from 0, or search stages as a whole"),
    ({"stages.general.patience": (2,)}, "stages.general: stages is a list of 1; count from 0"),
    ({"model.tower.1": (2,)}, "model.tower.1: model.tower is a list of 1"),
    ({"optimizer.learning_rate.x": (2,)}, "is 0.001, so nothing in it can be; search optimizer.learning_rate itself"),
])  # fmt: skip
def test_what_is_no_setting_is_told_before_anything_runs(space: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(space, MMOE, "MMoE")
    assert message in str(caught.value)


@pytest.mark.parametrize(("values", "message"), [
    ({"space": {"a": {"low": 2, "high": 1}}}, "low = 2 is not below high = 1"),
    ({"space": {"a": {"low": 0, "high": 1, "log": True}}}, "log = true needs low above 0"),
    ({"space": {"a": 3}}, "space.a"),
    ({"method": "bayes"}, "method"),
])  # fmt: skip
def test_faults_of_a_file(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Search.from_dict({"name": "s", "models": {"M": "man-paper"}} | values)
    assert message in str(caught.value)


def test_a_grid_needs_a_trial_for_each_combination() -> None:
    space = {"model.tower": [[4], [8]], "optimizer.l2": [1e-6, 1e-5, 1e-4]}
    said = {"name": "s", "models": {"M": "man-paper"}, "method": "grid", "space": space}
    assert Search.from_dict({**said, "trials": 6}).space_of("M", MMOE)
    with pytest.raises(ConfigError, match="trials: 5 trials are too few for the 6 combinations of M's grid; allow 6"):
        Search.from_dict({**said, "trials": 5}).space_of("M", MMOE)


def test_every_model_needs_a_space_and_every_space_a_model() -> None:
    config = Search.from_dict({"name": "s", "models": {"M": "man-paper"}, "spaces": {"N": {"optimizer.l2": [1e-6]}}})
    with pytest.raises(ConfigError, match="spaces.N: is no model"):
        config.check_names()
    with pytest.raises(ConfigError, match="spaces.M: is missing"):
        config.space_of("M", MMOE)
