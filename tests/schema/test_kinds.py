"""A file that is given to the wrong verb is told so; a slip in one of the right kind is not taken for another kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from funnelcast.benchmarks.search.config import Search
from funnelcast.benchmarks.suite import Suite
from funnelcast.errors import ConfigError
from funnelcast.experiments.experiment import Experiment
from funnelcast.schema.config import Config
from funnelcast.schema.dataset import Schema
from funnelcast.schema.kinds import KINDS

FILES = {
    "schema": 'funnel = "click"\nfeatures = {user = "categorical"}',
    "search": 'name = "s"\nmodels = {MAN = "man.toml"}\nspace = {"optimizer.l2" = [0.1]}',
    "benchmark": 'name = "b"\nmodels = {MAN = "man.toml"}',
    "experiment": '[model]\nname = "man"',
}
CLASSES: dict[str, type[Config]] = {"schema": Schema, "search": Search, "benchmark": Suite, "experiment": Experiment}


def refusal(kind: type[Config], path: Path, content: str) -> str:
    path.write_text(content)
    with pytest.raises(ConfigError) as raised:
        kind.from_toml(path)
    return str(raised.value)


@pytest.mark.parametrize("given", FILES)
@pytest.mark.parametrize("wanted", CLASSES)
def test_a_file_of_another_kind_is_told(given: str, wanted: str, tmp_path: Path) -> None:
    path = tmp_path / "file.toml"
    if given == wanted:
        path.write_text(FILES[given])
        assert CLASSES[wanted].from_toml(path)
    else:
        message = refusal(CLASSES[wanted], path, FILES[given])
        assert (
            f"{path}: is {KINDS[given].name} (it has " in message
            and f"), not {KINDS[wanted].name}; give it to: " in message
        )
        assert message.endswith(f"funnelcast {KINDS[given].verb}")


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        (
            Experiment,
            "[[stages]]\nepochs = 2\n[models]\nname = 'man'",
            "models: is not a setting; did you mean 'model'?",
        ),
        (Suite, "name = 'b'\nmodels = {A = 'a.toml'}\nmodel = 3", "model: is not a setting; did you mean 'models'?"),
        (Schema, "funnel = 'click'\nmodel = 3", "features: is missing"),
        (Experiment, "seeed = 3", "seeed: is not a setting; did you mean 'seed'?"),
    ],
)
def test_a_slip_is_told_as_one(kind: type[Config], content: str, message: str, tmp_path: Path) -> None:
    assert message in refusal(kind, tmp_path / "file.toml", content)


def test_a_search_that_has_no_space_is_one(tmp_path: Path) -> None:
    found: Any = Search.from_dict({"name": "s", "models": {"MAN": "man.toml"}, "trials": 3})
    path = tmp_path / "file.toml"
    path.write_text('name = "s"\ntrials = 3\nmodels = {MAN = "man.toml"}')
    assert Search.from_toml(path) == found
