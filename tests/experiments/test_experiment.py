"""Experiment files: every fault at once, each with its fix; every setting documented."""

import difflib
import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest

import funnelcast
from funnelcast.errors import ConfigError
from funnelcast.experiments.experiment import Experiment
from funnelcast.models.man import MAN
from funnelcast.schema.config import Config
from funnelcast.schema.dataset import Schema
from funnelcast.schema.sentences import sentences_of
from tests import tiny

OTHERS = ("tables", "search")
"""Folders of files that name experiments."""
EXPERIMENTS = sorted(
    path for path in Path(__file__).parents[2].glob("experiments/**/*.toml") if path.parent.name not in OTHERS
)


def faults_of(error: ConfigError) -> dict[str, str]:
    return {fault.where: str(fault) for fault in error.faults}


def test_defaults_are_the_papers() -> None:
    experiment = Experiment()
    assert experiment.model == MAN()
    assert (experiment.optimizer.learning_rate, experiment.optimizer.l2, experiment.optimizer.batch_size) == (
        1e-3,
        1e-6,
        2048,
    )
    model = MAN()
    assert (model.expert, model.tower, model.experts_per_step, model.shared_experts) == (
        (256, 128),
        (128, 16, 32),
        4,
        4,
    )
    assert (model.embedding_dim, model.attention, model.head) == (5, "gated", "chain")


def test_all_faults_of_a_file_at_once(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(
        """
        name = "a b"
        sed = 1
        keep_negatives = 0
        [model]
        name = "man"
        experts_per_stp = 3
        attention = "gate"
        [loss]
        normalize = false
        [optimizer]
        learning_rate = -1
        [[stages]]
        epoch = 3
        """
    )
    with pytest.raises(ConfigError) as caught:
        Experiment.from_toml(tmp_path / "bad.toml")
    text = str(caught.value)
    assert "bad.toml has 8 faults:" in text
    for name, hint in {
        "sed": "did you mean 'seed'?",
        "experts_per_stp": "did you mean 'experts_per_step'?",
        "attention": "did you mean 'gated'?",
        "normalize": "did you mean 'normalise'?",
        "epoch": "did you mean 'epochs'?",
        "keep_negatives": "0",
        "learning_rate": "-1",
        "name": "'a b'",
    }.items():
        assert any(name in fault.where and hint in str(fault) for fault in caught.value.faults), (name, text)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": {"name": "mna"}}, "'mna' is no model; did you mean 'man'?"),
        ({"model": {}}, "has no name"),
        ({"model": "man"}, "model: 'man' is no table; write model = {name = \"man\"}"),
        ({"stages": {"epochs": 2}}, "stages: {'epochs': 2} is not allowed: a list is needed; write [[stages]]"),
        ({"stages": [{"train": "experts"}]}, 'a list is needed; write ["experts"]'),
        ({"workers": "all"}, "workers: 'all' is not allowed: input should be a valid integer, and 'all' is not one of"),
        ({"stages": []}, "stages"),
        ({"workers": 0}, "workers"),
        ({"workers": "all"}, "workers"),
        ({"seed": -1}, "seed"),
        ({"name": ".."}, "name: '..' is not allowed"),
        ({"name": "x" * 101}, "name"),
        ({"keep_negatives": 1e-320}, "keep_negatives: 1e-320 is not allowed"),
        ({"loss": {"normalise": 1}}, "loss.normalise: 1 is not allowed: input should be a valid boolean"),
        ({"loss": {"clamp": 1e308}}, "loss.clamp: 1e+308 is not allowed"),
        ({"loss": {"correction": "ips"}}, "loss.correction: 'ips' is not one of none, ipw, doubly_robust"),
        ({"loss": {"correction": "ipw", "largest_weight": 0.5}}, "loss.largest_weight: 0.5 is not allowed"),
        ({"loss": {"largest_weight": 5.0}}, "largest_weight is of a correction, and there is none; set correction"),
        ({"loss": {"correction": "ipw", "learning_rate": 0.1}}, "learning_rate is of learned weights"),
        ({"loss": {"given_parent_weight": 0}}, "loss.given_parent_weight: 0 is not allowed"),
        ({"stages": [{"name": "line\nbreak"}]}, "stages.0.name"),
        ({"model": {"name": "man", "tower": [8]}}, "3 rates for 1 layer"),
        ({"model": {"name": "man", "tower": [0], "tower_dropout": []}}, "tower"),
        ({"model": {"name": "man", "tower": [4], "tower_dropout": [0.999999]}}, "tower_dropout"),
    ],
)
def test_a_fault(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        Experiment.from_dict(settings)


def test_faults_that_show_only_beside_the_table() -> None:
    experiment = tiny.experiment(
        model=tiny.MODEL | {"embedding_dims": {"itm": 3}},
        loss={"weighting": "fixed", "weights": [1, 2, 3]},
        stages=[{}, {"name": "next", "metric": "auc_conversio", "learning_rate": 0.5}],
        optimizer={"weight_decay": 3.0},
    )
    with pytest.raises(ConfigError) as caught:
        experiment.check(tiny.fitted_encoder(), "file.toml")
    assert str(caught.value).startswith("file.toml has 4 faults:")
    faults = faults_of(caught.value)
    assert "did you mean 'item'?" in faults["model.embedding_dims.itm"]
    assert "3 values for 2 steps" in faults["loss.weights"]
    assert "did you mean 'auc_conversion'?" in faults["stages.1.metric"]
    assert "takes all of a weight in one step at a learning rate of 0.5" in faults["optimizer.weight_decay"]
    assert tiny.experiment().check(tiny.fitted_encoder()) == tiny.experiment()


@pytest.mark.parametrize(
    ("steps", "space", "loss", "message"),
    [
        ("click; conversion after click", "entire", {"correction": "ipw"},
         "loss.correction: 'ipw' corrects the loss given the parent, and model.loss_space is 'entire'; set that to"),
        ("click; conversion after click", "given_parent", {"given_parent_weight": 0.5},
         "loss.given_parent_weight: weighs one loss of two, and model.loss_space is 'given_parent'; set loss_space"),
        ("click; conversion", "given_parent", {"correction": "doubly_robust"},
         "loss.correction: 'doubly_robust' is for steps after another, and the funnel has none; leave it out"),
        ("click; conversion", "both", {}, None),
        ("click; conversion after click", "both", {"correction": "doubly_robust", "learning_rate": 0.1}, None),
    ],
)  # fmt: skip
def test_corrections_need_a_loss_given_the_parent(steps: str, space: str, loss: Any, message: str | None) -> None:
    encoder = tiny.fitted_encoder(schema=Schema.from_dict({**tiny.SCHEMA.model_dump(), "funnel": steps}))
    changed = tiny.experiment(model={"name": "shared_bottom", "loss_space": space}, loss=loss)
    if message is None:
        changed.check(encoder)
        return
    with pytest.raises(ConfigError, match=re.escape(message)):
        changed.check(encoder)


def test_sampled_negatives_need_one_first_step() -> None:
    schema = Schema.from_dict({**tiny.SCHEMA.model_dump(), "funnel": "click; conversion"})
    encoder = tiny.fitted_encoder(schema=schema)
    with pytest.raises(ConfigError, match="keep_negatives: 0.5 needs a funnel with one first step"):
        tiny.experiment(keep_negatives=0.5).check(encoder)
    tiny.experiment(keep_negatives=1).check(encoder)


@pytest.mark.parametrize("number", [2**31, 2**63, 10**30])
def test_numbers_that_no_memory_holds_are_faults(number: int) -> None:
    settings = {
        "model": {"name": "man", "experts_per_step": number, "shared_experts": number, "expert": [number]},
        "optimizer": {"batch_size": number, "micro_batch": number},
        "stages": [{"epochs": number, "patience": number}],
        "workers": number,
    }
    with pytest.raises(ConfigError) as raised:
        Experiment.from_dict(settings)
    assert len(raised.value.faults) == 8
    assert all(f"{number} is not allowed: input should be less than or equal to" in str(f) for f in raised.value.faults)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_experiment_files_are_valid_and_short(path: Path) -> None:
    Experiment.from_toml(path)
    assert len(path.read_text().splitlines()) <= 25


def test_an_experiment_survives_its_json() -> None:
    experiment = tiny.experiment(keep_negatives=0.1 + 0.2)
    assert Experiment.from_dict(experiment.model_dump(mode="json")) == experiment


def all_configs() -> list[type[Config]]:
    """Every Config of the package, whether the command line imports it or not."""
    for module in pkgutil.walk_packages(funnelcast.__path__, "funnelcast."):
        importlib.import_module(module.name)
    found, new = set[type[Config]](), {Config}
    while new:
        new = {sub for config in new for sub in config.__subclasses__() if sub.__module__.startswith("funnelcast.")}
        found |= new
    return sorted(found, key=lambda config: config.__qualname__)


def test_every_setting_of_the_package_has_a_sentence() -> None:
    configs = all_configs()
    assert {"Experiment", "MAN", "Stage", "Standard", "Funnel"} <= {config.__name__ for config in configs}
    silent = [
        f"{config.__name__}.{name}"
        for config in configs
        for name in config.model_fields
        if len(sentences_of(config).get(name, "").split()) < 2
    ]
    assert not silent


def test_the_files_of_the_ablation_differ_in_a_line_or_two() -> None:
    folder = Path(__file__).parents[2] / "experiments" / "ablation"
    lines = {path.stem: path.read_text().splitlines()[2:] for path in folder.glob("*.toml")}
    whole = lines.pop("man")
    assert len(lines) == 5
    for name, own in lines.items():
        changed = [line for line in difflib.ndiff(whole, own) if line[0] in "+-"]
        removed, added = (sum(line[0] == sign for line in changed) for sign in "-+")
        assert 1 <= max(removed, added) <= 2, name
