"""A step that is captured and replayed finds what the step itself would, to the bit."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from funnelcast.data.batch import Batch
from funnelcast.kernels.cpu.graph import KINDS
from funnelcast.models.network import FunnelModel
from funnelcast.registry import recipe_of
from funnelcast.runtime.threads import worker_pool
from funnelcast.training.gradients import Gradients
from funnelcast.training.losses import LossConfig, build_loss_weights
from funnelcast.training.objective import Objective
from funnelcast.training.step import PlainStep, Trained
from tests.layers.inputs import INPUTS, draw_batch, source
from tests.layers.reference import randomise
from tests.training.test_step import FUNNEL, RATES, dense_parameters

TOWERS: dict[str, Any] = {"tower": [16, 8], "tower_dropout": [0.2, 0.1]}
MODELS: dict[str, dict[str, Any]] = {
    "man": {"name": "man", "expert": [16, 8], "experts_per_step": 2, "shared_experts": 1, **TOWERS},
    "man, tower top": {"name": "man", "expert": [16], "attention": "tower_top", "loss_space": "given_parent", **TOWERS},
    "ple": {"name": "ple", "expert": [16], "experts_per_step": 1, "shared_experts": 1, "levels": 2, **TOWERS},
    "mmoe": {"name": "mmoe", "expert": [16, 8], "experts": 3, **TOWERS},
    "omoe": {"name": "omoe", "expert": [16], "experts": 2, **TOWERS},
    "esmm": {"name": "esmm", **TOWERS},
    "shared bottom": {"name": "shared_bottom", "expert": [16, 8], **TOWERS},
    "single task": {"name": "single_task", "expert": [16, 8], **TOWERS},
    "aitm": {"name": "aitm", "calibrator": 5.0, **TOWERS},
}
LOSSES = {
    "fixed": LossConfig(),
    "learned": LossConfig(weighting="uncertainty", normalise=True),
    "focal": LossConfig(focal_gamma=1.5, positive_weight=2.0),
}
POOLING: dict[str, Any] = {"history": {"kind": "transformer", "hidden": 3}}
SELECTED: dict[str, Any] = {
    "both": ({"loss_space": "both"}, LossConfig()),
    "ipw": ({"loss_space": "given_parent"}, LossConfig(correction="ipw")),
    "both, doubly robust": ({"loss_space": "both", "members": 2}, LossConfig(correction="doubly_robust")),
}


def step_of(model: str, loss: str | LossConfig = "fixed", *, captures: bool = True, **changes: Any) -> PlainStep:
    """In float32; two microbatches of 8 go through the network together."""
    built = recipe_of({**MODELS[model], "embedding_dim": 3, **changes}).build(INPUTS, FUNNEL)
    assert isinstance(built, FunnelModel)
    randomise(built.float(), scale=0.6)
    config = LOSSES[loss] if isinstance(loss, str) else loss
    weights = build_loss_weights(config, RATES)
    parameters = [*dense_parameters(built), *weights.parameters()]
    step = PlainStep(Objective(built, weights, config), Trained(parameters, True), 8)
    step.captured._kinds *= captures
    return step


def drawn(rows: int, seed: int, *, weighed: bool = True) -> Batch:
    generator = source(seed)
    labels = torch.rand(rows, 3, generator=generator) < 0.6
    labels[:, 1:] &= labels[:, :1]
    ids = draw_batch(4 * rows, dtype=torch.float32).take(torch.randint(4 * rows, (rows,), generator=generator))
    return replace(ids, labels=labels.byte(), weight=torch.rand(rows, generator=generator) if weighed else None)


def numbers(found: Gradients) -> list[Tensor]:
    assert found.embedded is not None
    return [found.losses, *found.parameters, *found.embedded.tensors()]


def captured(step: PlainStep) -> int:
    """How many graphs there are."""
    step.captured.begin(static_outputs=False)
    return sum(map(len, step.captured._idle.values()))


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model", MODELS)
def test_replays_find_the_same_to_the_bit(model: str, loss: str) -> None:
    replayed, plain = step_of(model, loss), step_of(model, loss, captures=False)
    for seed in range(4):
        batch = drawn(32, seed)
        assert all(map(torch.equal, numbers(replayed(batch, seed, None)), numbers(plain(batch, seed, None)))), seed
    assert (captured(replayed), captured(plain)) == (1, 0)


@pytest.mark.parametrize("name", SELECTED)
def test_so_do_those_of_losses_given_the_parent(name: str) -> None:
    """Shares of rows that reached a parent are of each batch."""
    changes, loss = SELECTED[name]
    replayed, plain = (step_of("man", loss, captures=captures, **changes) for captures in (True, False))
    for seed in range(4):
        batch = drawn(32, seed)
        assert all(map(torch.equal, numbers(replayed(batch, seed, None)), numbers(plain(batch, seed, None)))), seed
    assert (captured(replayed), captured(plain)) == (1, 0)


def test_threads_replay_graphs_of_their_own() -> None:
    replayed, plain = (replace(step_of("man", captures=c), workers=2) for c in (True, False))
    plain.captured._kinds = 0
    with worker_pool(2) as pool:
        for seed in range(6):
            batch = drawn(64, seed)
            assert all(map(torch.equal, numbers(replayed(batch, seed, pool)), numbers(plain(batch, seed, pool))))
    assert 1 <= captured(replayed) <= 4


def test_what_microbatches_found_is_not_overwritten_within_a_batch() -> None:
    """Several ones, one after the other by one graph."""
    replayed, plain = step_of("mmoe"), step_of("mmoe", captures=False)
    for seed in range(3):
        batch = drawn(64, seed)
        assert all(map(torch.equal, numbers(replayed(batch, seed, None)), numbers(plain(batch, seed, None))))
    assert captured(replayed) == 1


def test_each_size_has_its_own_and_a_third_one_none() -> None:
    replayed, plain = step_of("esmm"), step_of("esmm", captures=False)
    for seed, rows in enumerate((16, 9, 16, 9, 5, 5, 16, 9)):
        batch = drawn(rows, seed)
        assert all(map(torch.equal, numbers(replayed(batch, seed, None)), numbers(plain(batch, seed, None))))
    assert captured(replayed) == KINDS == 2


def test_microbatches_of_one_size_from_batches_of_two_are_different_kinds() -> None:
    """Each has its share of what learned weights cost."""
    replayed, plain = step_of("esmm", "learned"), step_of("esmm", "learned", captures=False)
    for seed, rows in enumerate((32, 16, 32, 16, 32, 16)):
        batch = drawn(rows, seed)
        assert all(map(torch.equal, numbers(replayed(batch, seed, None)), numbers(plain(batch, seed, None)))), seed
    assert captured(replayed) == 2


def test_rows_with_weights_and_without_are_different_kinds() -> None:
    replayed, plain = step_of("aitm"), step_of("aitm", captures=False)
    for seed, weighed in enumerate((True, False, True, False)):
        batch = drawn(16, seed, weighed=weighed)
        assert all(map(torch.equal, numbers(replayed(batch, seed, None)), numbers(plain(batch, seed, None))))


def test_parameters_may_move_in_place_and_to_other_memory() -> None:
    replayed, plain = step_of("ple"), step_of("ple", captures=False)
    batch = drawn(16, 0)
    for change in (0.5, -0.25):
        for step in (replayed, plain):
            with torch.no_grad():
                for parameter in step.objective.parameters():
                    parameter.add_(change)
                    if change < 0:
                        parameter.data = parameter.detach().clone()
        assert all(map(torch.equal, numbers(replayed(batch, 0, None)), numbers(plain(batch, 0, None))))
        assert all(map(torch.equal, numbers(replayed(batch, 1, None)), numbers(plain(batch, 1, None))))


def test_sequences_whose_sizes_depend_on_elements_are_not_captured() -> None:
    replayed, plain = (step_of("mmoe", captures=c, pooling=POOLING) for c in (True, False))
    for seed in range(3):
        batch = drawn(16, 0)
        assert all(map(torch.equal, numbers(replayed(batch, seed, None)), numbers(plain(batch, seed, None))))
    assert captured(replayed) == 0


def test_the_reference_in_float64_is_captured_too() -> None:
    replayed, plain = step_of("mmoe"), step_of("mmoe", captures=False)
    for seed in range(3):
        batch = drawn(16, seed)
        assert batch.weight is not None
        batch = replace(batch, weight=batch.weight.double(), numeric=batch.numeric.double())
        for step in (replayed, plain):
            step.objective.double()
        assert all(map(torch.equal, numbers(replayed(batch, seed, None)), numbers(plain(batch, seed, None))))
    assert captured(replayed) == 1


class Chancy(Objective):
    """Its loss is by chance."""

    def of(self, *arguments: Any, **named: Any) -> tuple[Tensor, Tensor]:
        losses, combined = super().of(*arguments, **named)
        return losses, combined * torch.rand((), generator=source(1))


def test_what_depends_on_chance_is_done_anew_each_time() -> None:
    step = step_of("esmm")
    chancy = replace(step, objective=Chancy(step.objective.model, step.objective.loss_weights, LOSSES["fixed"]))
    batch = drawn(16, 0)
    once, second = numbers(chancy(batch, 0, None)), numbers(chancy(batch, 0, None))
    assert captured(chancy) == 0
    assert all(map(torch.equal, once, second))


@pytest.mark.slow
def test_capturing_does_not_load_torchs_compiler() -> None:
    """Which takes longer than a thousand steps of a small model."""
    code = (
        "import sys; from tests.training.test_captured import *\n"
        "step = step_of('mmoe'); [step(drawn(16, i), i, None) for i in range(3)]\n"
        "print(captured(step), 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False"]
