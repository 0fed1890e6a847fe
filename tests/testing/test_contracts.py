"""Every promise can be broken: a model, or a part of the package, that does so is caught. And own recipes keep them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor

from funnelcast.data.batch import Batch
from funnelcast.data.encoder import InputSpec
from funnelcast.errors import Fault
from funnelcast.experiments.experiment import Experiment
from funnelcast.kernels.cpu import FLOAT32
from funnelcast.kernels.cpu.bank import expert_mixture
from funnelcast.layers.banks import LinearBank
from funnelcast.layers.gates import GateBank, NoTrunk
from funnelcast.layers.pooling import TransformerPooling
from funnelcast.models.base import Parallel, Recipe
from funnelcast.models.network import FunnelModel, NetworkRecipe
from funnelcast.models.parts import Parts
from funnelcast.ops import DropoutKey, Reach, independent_reach
from funnelcast.registry import recipe_of
from funnelcast.schema.funnel import Funnel
from funnelcast.testing import auc_gains, contracts, learning
from funnelcast.testing.cases import INPUTS, Case, cases
from funnelcast.testing.drawing import LONGEST
from funnelcast.training.losses import UncertaintyWeights

MMOE = {"name": "mmoe", "embedding_dim": 4, "expert": [8, 6], "experts": 3, "tower": [7, 6], "tower_dropout": []}
TREES = {"name": "lightgbm", "rounds": 4, "num_leaves": 4, "min_rows_per_leaf": 1}


def case_of(recipe: Recipe | dict[str, Any], shape: str = "tree", kind: str = "all") -> Case:
    recipe = recipe if isinstance(recipe, Recipe) else recipe_of(recipe)
    (found,) = [each for each in cases(recipe, lambda _: 0) if (each.shape, each.kind) == (shape, kind)]
    return found


def wrong(change: Callable[[Batch, Reach], Reach]) -> Case:
    """A case whose model says something else than it should."""
    case = case_of(MMOE)
    model = case.network(0)

    def forward(batch: Batch, key: DropoutKey | None = None) -> Reach:
        return change(batch, FunnelModel.forward(model, batch, key))

    model.forward = forward  # type: ignore[method-assign]
    case.__dict__["model"] = model
    return case


def each(change: Callable[[Tensor], Tensor]) -> Callable[[Batch, Reach], Reach]:
    return lambda batch, reach: Reach(*map(change, reach))


WRONG: list[tuple[contracts.Promise, Callable[[Batch, Reach], Reach]]] = [
    (contracts.has_shapes, each(Tensor.double)),
    (contracts.has_shapes, each(Tensor.squeeze)),
    (contracts.has_probabilities, each(lambda log: log + 0.01)),
    (contracts.has_probabilities, each(lambda log: log - 0.01)),
    (contracts.has_probabilities, each(lambda log: torch.where(log < -9, -torch.inf, log))),
    (contracts.reads_each_row_by_itself, each(lambda log: log - log.mean(0).abs())),
    (contracts.reads_each_row_by_itself, each(lambda log: log.sort(0).values)),
    (contracts.reads_each_row_by_itself, each(lambda log: 0 * log - 1)),
    (contracts.reads_rows_of_unknown_ids, lambda batch, reach: Reach(*(log / batch.ids.any() for log in reach))),
    (contracts.reads_rows_of_unknown_ids, each(lambda log: log - torch.arange(len(log))[:, None])),
    (contracts.scores_alike_in_pieces, each(lambda log: log * (1 + 1e-4 * len(log)))),
    (contracts.scores_alike_in_pieces, each(lambda log: log * (1 + 1e-6 * torch.rand(1)))),
]


@pytest.mark.parametrize(("promise", "change"), WRONG)
def test_a_model_that_says_something_else_is_caught(
    promise: contracts.Promise, change: Callable[[Batch, Reach], Reach]
) -> None:
    promise(wrong(lambda batch, reach: reach))
    with pytest.raises(AssertionError):
        promise(wrong(change))


def leave(*_: Any, **__: Any) -> None:
    """Do nothing."""


def without_seed(*_: Any) -> torch.Generator:
    return torch.Generator().manual_seed(int(torch.randint(1 << 40, ())))


def unseeded(self: LinearBank, generator: torch.Generator) -> None:
    torch.nn.init.uniform_(self.weight)


def without_gradient(self: GateBank, x: Tensor) -> Tensor:
    return torch.cat([gate(x).softmax(1).detach() for gate in self.logits], 1)


def forgotten(self: UncertaintyWeights) -> None:
    self.log_variance.data[0] = 0


def a_bit_off(*arguments: Any, **named: Any) -> Any:
    return 1.001 * expert_mixture(*arguments, **named)


REACH = import_module("funnelcast.ops.reach")  # whose name in the package is that of its function
BROKEN: list[tuple[contracts.Promise, Any, str, Any, Any]] = [
    (contracts.never_rises_under_the_chain_head, REACH, "chain_reach", independent_reach, MMOE),
    (contracts.is_the_same_after_saving, FunnelModel, "load", leave, MMOE),
    (contracts.starts_by_the_seed, LinearBank, "reset", unseeded, MMOE),
    (contracts.starts_by_the_seed, learning, "generator_of", lambda *_: torch.Generator().manual_seed(0), MMOE),
    (contracts.passes_a_gradient_to_every_parameter, GateBank, "forward", without_gradient, MMOE),
    (contracts.has_right_derivatives, GateBank, "forward", without_gradient, MMOE),
    (contracts.is_the_same_in_its_fast_form, FLOAT32, "expert_mixture", a_bit_off, MMOE),
    (learning.trains_by_the_seed, learning, "generator_of", without_seed, MMOE),
    (learning.moves_every_parameter, UncertaintyWeights, "clamp_", forgotten, MMOE),
    (learning.moves_every_parameter, GateBank, "forward", without_gradient, MMOE),
    (learning.refuses_settings_of_gradients, Experiment, "_unread", lambda _: [], TREES),
]


@pytest.mark.slow
@pytest.mark.parametrize(("promise", "place", "name", "instead", "settings"), BROKEN)
def test_a_part_that_does_something_else_is_caught(
    promise: contracts.Promise, place: Any, name: str, instead: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = "numeric" if promise is contracts.has_right_derivatives else "all"  # where it fails it counts one by one
    promise(case_of(settings, kind=kind))
    if isinstance(place, dict):
        monkeypatch.setitem(place, name, instead)
    else:
        monkeypatch.setattr(place, name, instead)
    with pytest.raises((AssertionError, RuntimeError)):
        promise(case_of(settings, kind=kind))


@pytest.mark.slow
def test_a_network_that_does_not_export_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the longest list of a batch decides its shapes."""
    monkeypatch.setattr(TransformerPooling, "_longest", lambda self, lengths: max(1, int(lengths.max())))
    with pytest.raises(Exception):  # noqa: B017
        contracts.exports(case_of(MMOE))


class Own(NetworkRecipe):
    """A user's recipe, which is not registered."""

    name: Literal["own"] = "own"

    parallel: ClassVar[Parallel] = "never"
    why_not_parallel: ClassVar[str] = "is told of one funnel"

    def parts(self, width: int, columns: Sequence[Sequence[int]], funnel: Funnel) -> Parts:
        return Parts(NoTrunk(), width)


class Lying(Own):
    """It says that it takes no parallel labels, and takes them; and refuses what it says that it takes."""

    def check(self, inputs: InputSpec, funnel: Funnel, where: str = "model") -> list[Fault]:
        return [] if funnel.parents.count(-1) > 1 else [Fault(where, "is not in the mood")]


OWN = {"embedding_dim": 4, "tower": [7, 6], "tower_dropout": []}


def test_a_recipe_of_ones_own_keeps_all_promises() -> None:
    recipe = Own.from_dict(OWN)
    for case in cases(recipe, lambda case: sum(p.numel() for p in case.network(0).parameters())):
        if case.kind == "all" or case.refused:
            for promise in contracts.promises_of(case):
                promise(case)


def test_capabilities_that_are_not_true_are_caught() -> None:
    for shape, promise in (("parallel", contracts.is_refused_with_reason_and_fix), ("tree", contracts.is_taken)):
        promise(case_of(Own.from_dict(OWN), shape))
        assert promise in contracts.promises_of(case_of(Own.from_dict(OWN), shape))
        with pytest.raises(AssertionError):
            promise(case_of(Lying.from_dict(OWN), shape))


def test_a_formula_that_is_one_off_is_caught() -> None:
    case = case_of(MMOE)
    count = sum(p.numel() for p in case.network(0).parameters())
    contracts.has_the_parameters_of_its_formula(replace(case, formula=lambda _: count))
    for formula in (lambda _: count + 1, None):
        with pytest.raises(AssertionError):
            contracts.has_the_parameters_of_its_formula(replace(case, formula=formula))


def test_every_promise_is_kept_by_some_case() -> None:
    """None is written and never asked for."""
    promised = {
        p for settings in (MMOE, TREES) for case in cases(recipe_of(settings)) for p in contracts.promises_of(case)
    }
    promised |= {p for case in cases(recipe_of(MMOE)) for p in contracts.promises_of(case, slow=True)}
    promised.add(contracts.is_refused_with_reason_and_fix)
    public = {f for name, f in vars(contracts).items() if callable(f) and f.__module__ == contracts.__name__}
    assert promised >= {f for f in public if not f.__name__.startswith("_")} - {contracts.promises_of}
    assert all(contracts.promises_of(case) for case in cases(recipe_of(MMOE)))


def test_the_rows_have_every_corner() -> None:
    for kind in INPUTS:
        columns = case_of(MMOE, kind=kind).draw(64)
        assert not columns.ids.size or (columns.ids == 0).any()
        for ragged in columns.ragged.values():
            lengths = ragged.offsets[1:] - ragged.offsets[:-1]
            assert (int(lengths.min()), int(lengths.max())) == (0, LONGEST) and (ragged.ids == 0).any()
        assert columns.labels is not None and {0, 1} == set(columns.labels[:, -1].tolist())


@pytest.mark.slow
def test_what_does_not_learn_or_learns_too_much_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow, wider = (
        recipe_of({"name": "shared_bottom", "embedding_dim": n, "expert": [n], "tower": [n], "tower_dropout": []})
        for n in (1, 8)
    )
    for promise in (learning.learns_64_rows_by_heart, learning.learns_the_simulator):
        with pytest.raises(AssertionError):
            promise(narrow)
    parts = auc_gains.simulated_parts(noise=False)
    monkeypatch.setattr(learning, "simulated_parts", lambda noise: parts)  # labels that do tell something
    with pytest.raises(AssertionError):
        learning.learns_no_noise(wider)
