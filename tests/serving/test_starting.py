"""What a bundle keeps of its training for adapting: what is saved is what is loaded, and it is what adapting takes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from funnelcast.errors import BundleError
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.predictor import Predictor
from funnelcast.serving.starting import inner_of
from funnelcast.training.adapting import Adapting, Starting
from funnelcast.training.losses import LossConfig
from tests import tiny
from tests.layers.inputs import source
from tests.serving.adapted import STARTING, network, support
from tests.serving.test_bundle import bundle_of

META = {"inner": "top", "learning_rate": 0.07, "steps": 4, "learned": True, "by": "user"}
STAGES = [{"epochs": 1}, {"name": "meta", "epochs": 1, "meta": META}]


def learned() -> Bundle:
    """As of meta-learning with learned factors."""
    experiment: Any = {"stages": STAGES, "loss": {"focal_gamma": 0.5}, "keep_negatives": 0.25}
    bundle, inner = bundle_of(**experiment), inner_of(tiny.experiment(**experiment).stages)
    assert inner is not None
    own = network(bundle).groups(inner.groups)
    factors = {name: torch.rand(p.shape, generator=source(len(name))) for name, p in own.items()}
    factors["output.bias"] = torch.rand(1, 2, generator=source(0)).t()  # not contiguous
    loss = LossConfig(focal_gamma=0.5)
    return replace(bundle, starting=Starting(loss, [1 / 3, 2.5], inner, [3.25, 0.1], factors, [0.0, 0.7], 0.25))


def saved(bundle: Bundle, folder: Path) -> Bundle:
    bundle.save(folder / "bundle")
    return Bundle.load(folder / "bundle")


def test_of_plain_training(tmp_path: Path) -> None:
    assert saved(replace(bundle_of(), starting=STARTING), tmp_path).starting == STARTING
    assert not (tmp_path / "bundle/factors.safetensors").exists()


def test_of_meta_learning(tmp_path: Path) -> None:
    before = learned()
    after = saved(before, tmp_path)
    assert before.starting is not None and after.starting is not None
    assert replace(after.starting, factors={}) == replace(before.starting, factors={})
    assert after.starting.factors.keys() == before.starting.factors.keys()
    assert all(torch.equal(factor, before.starting.factors[name]) for name, factor in after.starting.factors.items())
    assert after.starting.inner is not None and after.starting.inner.groups == ("gates", "attention", "towers")
    assert Bundle.load(tmp_path / "bundle").fingerprint == before.fingerprint


def test_of_boosters_and_others_that_cannot_adapt(tmp_path: Path) -> None:
    assert saved(bundle_of(), tmp_path).starting is None


def test_damaged_factors(tmp_path: Path) -> None:
    saved(learned(), tmp_path)
    path = tmp_path / "bundle/factors.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    for damage in (Path.stat, Path.unlink):
        damage(path)
        with pytest.raises(BundleError, match="factors.safetensors is missing or differs from its checksum"):
            Bundle.load(tmp_path / "bundle")


def test_a_loaded_bundle_adapts_bit_by_bit_as_the_saved_one(tmp_path: Path) -> None:
    before, log = Predictor(learned()), support()
    after = Predictor(saved(before.bundle, tmp_path))
    two = Adapting(folds=2)
    found, expected = after.adapt(log, two), before.adapt(log, two)
    assert len(found.losses) == 6 and found.losses == expected.losses and found.steps == expected.steps > 0
    assert all(torch.equal(change, expected.changes[name]) for name, change in found.changes.items())
    other = Predictor(replace(before.bundle, starting=STARTING)).adapt(log, two)
    assert len(other.losses) == 7 and other.losses[1] != found.losses[1]
    assert len(after.adapt(log, Adapting(steps=2, folds=2)).losses) == 4


def test_the_inner_loop_is_that_of_the_last_meta_stage() -> None:
    more = {"name": "more", "train": ["towers"], "epochs": 1, "meta": {"steps": 2}}
    stages = tiny.experiment(stages=[*STAGES, more]).stages
    assert inner_of(stages[:1]) is None
    first, last = inner_of(stages[:2]), inner_of(stages)
    assert first is not None and (first.steps, first.groups) == (4, ("gates", "attention", "towers"))
    assert last is not None and (last.steps, last.groups) == (2, ("towers",))
