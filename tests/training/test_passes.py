"""A recorded pass finds what the pass itself would, to the bit."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from funnelcast.data.batch import Batch
from funnelcast.data.episodes import TaskBatch
from funnelcast.layers.passes import KINDS
from funnelcast.layers.tape import RecordingError, Tape, perform
from funnelcast.models.network import FunnelModel
from funnelcast.registry import recipe_of
from funnelcast.runtime.threads import helpers
from funnelcast.training.algorithms import Inner
from funnelcast.training.gradients import Gradients
from funnelcast.training.losses import LossConfig, build_loss_weights
from funnelcast.training.meta import MetaStep
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
SELECTED: dict[str, Any] = {
    "both": ({"loss_space": "both"}, LossConfig()),
    "ipw": ({"loss_space": "given_parent"}, LossConfig(correction="ipw")),
    "both, doubly robust": ({"loss_space": "both", "members": 2}, LossConfig(correction="doubly_robust")),
}


def step_of(model: str, loss: str | LossConfig = "fixed", *, records: bool = True, **changes: Any) -> PlainStep:
    """In float32, pieces of two micro-batches of 8."""
    built = recipe_of({**MODELS[model], "embedding_dim": 3, **changes}).build(INPUTS, FUNNEL)
    assert isinstance(built, FunnelModel)
    randomise(built.float(), scale=0.6)
    config = LOSSES[loss] if isinstance(loss, str) else loss
    weights = build_loss_weights(config, RATES)
    parameters = [*dense_parameters(built), *weights.parameters()]
    step = PlainStep(Objective(built, weights, config), Trained(parameters, True), 8)
    step.passes._kinds = KINDS if records else 0
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


def recorded(step: PlainStep | MetaStep) -> int:
    """Passes that are."""
    step.passes.begin(lend=False)
    return sum(map(len, step.passes._idle.values()))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model", MODELS)
def test_played_passes_find_the_same_to_the_bit(model: str, loss: str) -> None:
    played, plain = step_of(model, loss), step_of(model, loss, records=False)
    for seed in range(4):
        batch = drawn(32, seed)
        assert all(map(torch.equal, numbers(played(batch, seed, None)), numbers(plain(batch, seed, None)))), seed
    assert (recorded(played), recorded(plain)) == (1, 0)


@pytest.mark.parametrize("name", SELECTED)
def test_so_do_those_of_losses_given_the_parent(name: str) -> None:
    """Shares of rows that reached a parent are of each batch."""
    changes, loss = SELECTED[name]
    played, plain = (step_of("man", loss, records=records, **changes) for records in (True, False))
    for seed in range(4):
        batch = drawn(32, seed)
        assert all(map(torch.equal, numbers(played(batch, seed, None)), numbers(plain(batch, seed, None)))), seed
    assert (recorded(played), recorded(plain)) == (1, 0)


def test_threads_play_passes_of_their_own() -> None:
    played, plain = (replace(step_of("man", records=r), workers=2) for r in (True, False))
    plain.passes._kinds = 0
    with helpers(2) as pool:
        for seed in range(6):
            batch = drawn(64, seed)
            assert all(map(torch.equal, numbers(played(batch, seed, pool)), numbers(plain(batch, seed, pool))))
    assert 1 <= recorded(played) <= 4


def test_what_pieces_found_is_not_overwritten_within_a_batch() -> None:
    """Several pieces, one after the other by one pass."""
    played, plain = step_of("mmoe"), step_of("mmoe", records=False)
    for seed in range(3):
        batch = drawn(64, seed)
        assert all(map(torch.equal, numbers(played(batch, seed, None)), numbers(plain(batch, seed, None))))
    assert recorded(played) == 1


def test_each_size_has_its_own_and_a_third_one_none() -> None:
    played, plain = step_of("esmm"), step_of("esmm", records=False)
    for seed, rows in enumerate((16, 9, 16, 9, 5, 5, 16, 9)):
        batch = drawn(rows, seed)
        assert all(map(torch.equal, numbers(played(batch, seed, None)), numbers(plain(batch, seed, None))))
    assert recorded(played) == KINDS == 2


def test_pieces_of_one_size_from_batches_of_two_are_told_apart() -> None:
    """A piece has its share of what learned weights cost."""
    played, plain = step_of("esmm", "learned"), step_of("esmm", "learned", records=False)
    for seed, rows in enumerate((32, 16, 32, 16, 32, 16)):
        batch = drawn(rows, seed)
        assert all(map(torch.equal, numbers(played(batch, seed, None)), numbers(plain(batch, seed, None)))), seed
    assert recorded(played) == 2


def test_rows_with_weights_and_without_are_told_apart() -> None:
    played, plain = step_of("aitm"), step_of("aitm", records=False)
    for seed, weighed in enumerate((True, False, True, False)):
        batch = drawn(16, seed, weighed=weighed)
        assert all(map(torch.equal, numbers(played(batch, seed, None)), numbers(plain(batch, seed, None))))


def test_parameters_may_move_in_place_and_to_other_memory() -> None:
    played, plain = step_of("ple"), step_of("ple", records=False)
    batch = drawn(16, 0)
    for change in (0.5, -0.25):
        for step in (played, plain):
            with torch.no_grad():
                for parameter in step.objective.parameters():
                    parameter.add_(change)
                    if change < 0:
                        parameter.data = parameter.detach().clone()
        assert all(map(torch.equal, numbers(played(batch, 0, None)), numbers(plain(batch, 0, None))))
        assert all(map(torch.equal, numbers(played(batch, 1, None)), numbers(plain(batch, 1, None))))


def test_sequences_have_sizes_of_their_own() -> None:
    pooling = {"history": {"kind": "transformer", "hidden": 3}}
    step = step_of("mmoe", pooling=pooling)
    step(drawn(16, 0), 0, None)
    assert recorded(step) == 0


def test_numbers_in_float64_are_not_recorded() -> None:
    step = step_of("mmoe")
    step.objective.double()
    batch = drawn(16, 0)
    assert batch.weight is not None
    step(replace(batch, weight=batch.weight.double(), numeric=batch.numeric.double()), 0, None)
    assert recorded(step) == 0


class Chancy(Objective):
    """Its loss is by chance."""

    def of(self, *arguments: Any, **named: Any) -> tuple[Tensor, Tensor]:
        losses, combined = super().of(*arguments, **named)
        return losses, combined * torch.rand((), generator=source(1))


def test_what_depends_on_chance_is_done_anew_each_time() -> None:
    step = step_of("esmm")
    chancy = replace(step, objective=Chancy(step.objective.model, step.objective.loss_weights, LOSSES["fixed"]))
    batch = drawn(16, 0)
    once, again = numbers(chancy(batch, 0, None)), numbers(chancy(batch, 0, None))
    assert recorded(chancy) == 0
    assert all(map(torch.equal, once, again))


TASKS = ((7, 9), (7, 9), (9, 7))
META: dict[str, dict[str, Any]] = {
    "second order, top": {"inner": "top"},
    "second order, all, two steps": {"steps": 2},
    "first order": {"order": "first"},
    "learned rates, with the support's loss": {"learned": True, "support_loss": 0.5},
    "reptile": {"order": "reptile", "steps": 2},
}


def meta_of(model: str, config: Inner, *, records: bool = True) -> MetaStep:
    objective = step_of(model, "learned").objective
    trained = Trained([*dense_parameters(objective.model), *objective.loss_weights.parameters()], True)
    adapted: dict[str, Tensor] = {f"model.{name}": p for name, p in objective.model.groups(config.groups).items()}
    rates = [torch.full_like(p, 1.5) for p in adapted.values()] if config.learned else []
    step = MetaStep.of(objective, trained, config, adapted, rates, 4, 2)
    step.passes._kinds *= records
    return step


@pytest.mark.parametrize("config", META.values(), ids=META)
@pytest.mark.parametrize("model", MODELS)
def test_meta_steps_are_played_to_the_bit(model: str, config: dict[str, Any]) -> None:
    """Through inner steps, and what watching tells; tasks of one size, of which one has another support."""
    played, plain = (meta_of(model, Inner(learning_rate=0.05, **config), records=r) for r in (True, False))
    for seed in range(3):
        batch = TaskBatch(drawn(sum(map(sum, TASKS)), seed), TASKS)
        one, other = (step(batch, seed, None, watch=seed == 2) for step in (played, plain))
        assert all(map(torch.equal, numbers(one), numbers(other))), seed
    assert one.told is not None and other.told is not None and one.told.watched is not None
    assert other.told.watched is not None and torch.equal(one.told.watched.after, other.told.watched.after)
    assert one.told.watched.through == pytest.approx(other.told.watched.through, rel=1e-6)
    assert recorded(played) == 1


def test_threads_play_meta_steps_too() -> None:
    played, plain = (meta_of("man", Inner(inner="top"), records=r) for r in (True, False))
    with helpers(2) as pool:
        for seed in range(6):
            batch = TaskBatch(drawn(sum(map(sum, TASKS)), seed), TASKS)
            assert all(map(torch.equal, numbers(played(batch, seed, pool)), numbers(plain(batch, seed, pool))))


Operation = Callable[[Tensor, Tensor], Tensor]
OPERATIONS: dict[str, Operation] = {
    "one with a place for its result": lambda x, y: x @ y,
    "one of several results": lambda x, y: (x + y).max(0)[0],
    "one without such a place": lambda x, y: x.index_select(0, torch.argsort(y[0])),
    "a view": lambda x, y: (x * y).t()[1:],
    "in place": lambda x, y: (x * 2).add_(y).relu_(),
    "into zeros": lambda x, y: x.new_zeros(3, 3).add_(x).mul_(y),
    "into what was empty": lambda x, y: torch.empty_like(x).copy_(y),
    "joined": lambda x, y: torch.cat([x, torch.stack([y[0], x[1]])]),
    "of another type": lambda x, y: (x > y).to(torch.float32).sum(0),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_torchs_operations_are_played_on_what_is_there_now(operation: Operation) -> None:
    x, y = torch.randn(2, 3, 3, generator=source(2))
    tape = Tape()
    with tape.recording():
        found = operation(x, y)
    for seed in (3, 4):
        new = torch.randn(2, 3, 3, generator=source(seed))
        x.copy_(new[0])
        y.copy_(new[1])
        tape.play()
        assert torch.equal(found, operation(x, y))


def test_calls_are_played_in_their_order() -> None:
    x, seen = torch.zeros(2), []
    tape = Tape()
    with tape.recording():
        perform(lambda: seen.append(x.tolist()))
        x += 1
        perform(lambda: seen.append(x.tolist()))
    tape.play()
    assert seen == [[0, 0], [1, 1], [1, 1], [2, 2]]


@pytest.mark.parametrize("chosen", [lambda x: x.sum().item(), lambda x: x[x > 0], torch.rand_like])
def test_what_depends_on_numbers_or_chance_is_not_recordable(chosen: Callable[[Tensor], Any]) -> None:
    with pytest.raises(RecordingError), Tape().recording():
        chosen(torch.ones(2))


def test_nothing_is_recorded_after_an_error() -> None:
    tape = Tape()
    with pytest.raises(ValueError, match="own"), tape.recording():
        raise ValueError("own")
    perform(lambda: None)
    assert not tape.calls


@pytest.mark.slow
def test_recording_does_not_load_torchs_compiler() -> None:
    """Which takes longer than a thousand steps of a small model."""
    code = (
        "import sys; from tests.training.test_passes import *\n"
        "step = step_of('mmoe'); [step(drawn(16, i), i, None) for i in range(3)]\n"
        "print(recorded(step), 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False"]
