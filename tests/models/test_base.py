"""What holds for every recipe: rows stand for themselves, groups, seeds, gradients, export, and faults of settings."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from funnelcast.data.batch import Batch
from funnelcast.data.encoder import InputSpec
from funnelcast.errors import ConfigError
from funnelcast.layers.heads import Reach
from funnelcast.layers.mode import Mode
from funnelcast.models.network import TOP, FunnelModel, Group
from funnelcast.models.registry import RECIPES, recipe_of
from tests.models.reference import FUNNELS, INPUTS, SMALL, build, draw_batch

GROUPS: tuple[Group, ...] = ("embedding", "experts", *TOP)
CHAIN, TREE = FUNNELS["chain"], FUNNELS["tree"]
every_recipe = pytest.mark.parametrize("name", RECIPES)
every_head = pytest.mark.parametrize("head", ["chain", "independent"])


def small(name: str, **changes: Any) -> dict[str, Any]:
    return SMALL | {"name": name} | changes


@every_recipe
@pytest.mark.parametrize("funnel", FUNNELS.values(), ids=FUNNELS)
def test_a_row_does_not_depend_on_the_others(name: str, funnel: Any) -> None:
    model, batch = build(small(name), funnel), draw_batch(9)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    whole = model(batch)
    assert whole.log_p.shape == whole.log_q.shape == (9, len(funnel.names))
    assert torch.all(whole.log_p.std(0) > 0), "a step says the same of every row"
    for found, log in zip(model(batch.take(order)), whole, strict=True):
        torch.testing.assert_close(found, log[order], rtol=1e-12, atol=1e-14)
    for i in range(9):
        for found, log in zip(model(batch.slice(i, i + 1)), whole, strict=True):
            torch.testing.assert_close(found, log[i : i + 1], rtol=1e-12, atol=1e-14)


@every_recipe
@every_head
def test_no_rows(name: str, head: str) -> None:
    model = build(small(name, head=head), TREE)
    found = model(draw_batch(0))
    assert found.log_p.shape == found.log_q.shape == (0, 4)


@every_recipe
def test_rows_of_unknown_ids_alone(name: str) -> None:
    """Every unknown id is row 0: such rows differ by their numbers alone."""
    model, ids = build(small(name), CHAIN), torch.zeros(3, 3, dtype=torch.int32)
    log_p, log_q = model(Batch(ids, torch.tensor([[0.5], [0.5], [-2.0]], dtype=torch.float64)))
    torch.testing.assert_close(log_p.exp() + log_q.exp(), torch.ones(3, 2, dtype=torch.float64))
    torch.testing.assert_close(log_p[0], log_p[1])
    assert torch.all(log_p[0] != log_p[2])


@every_recipe
@pytest.mark.parametrize("scale", [1, 30])
def test_reach_never_rises_along_an_edge_under_the_chain_head(name: str, scale: float) -> None:
    model = build(small(name, head="chain"), TREE, torch.float32)
    batch = draw_batch(500, dtype=torch.float32)
    log_p, _ = model(Batch(batch.ids, scale * batch.numeric))
    for step, parent in enumerate(TREE.parents):
        assert parent < 0 or torch.all(log_p[:, step] <= log_p[:, parent])
    rising, _ = build(small(name, head="independent"), TREE, torch.float32)(batch)
    assert any(torch.any(rising[:, t] > rising[:, p]) for t, p in enumerate(TREE.parents) if p >= 0)


@every_recipe
@pytest.mark.parametrize("attention", ["gated", "tower_top", "none"])
def test_groups_part_the_parameters(name: str, attention: str) -> None:
    model = build(small(name, **({"attention": attention} if name == "man" else {})), TREE)
    names = [parameter for group in GROUPS for parameter in model.groups([group])]
    assert len(names) == len(set(names)) and set(names) == {n for n, _ in model.named_parameters()}
    for some in itertools.combinations(GROUPS, 2):
        assert list(model.groups(some).values()) == [p for n, p in model.named_parameters() if n in model.groups(some)]
        assert set(model.groups(some)) == set(model.groups(some[:1])) | set(model.groups(some[1:]))
    assert set(model.groups(["experts"])) == {n for n, _ in model.named_parameters() if n.startswith("trunk.experts.")}
    assert bool(model.groups(["attention"])) == (name == "man" and attention != "none")


def start(name: str, seed: int) -> FunnelModel:
    model = recipe_of(small(name)).build(INPUTS, TREE)
    model.reset("xavier_uniform", torch.Generator().manual_seed(seed))
    return model


@every_recipe
def test_the_generator_decides_every_parameter(name: str) -> None:
    torch.manual_seed(1)
    first = dict(start(name, 3).named_parameters())
    torch.manual_seed(2)
    again, other = start(name, 3), start(name, 4)
    for parameter, values in first.items():
        assert torch.equal(values, again.get_parameter(parameter))
        assert parameter.endswith("bias") or not torch.equal(values, other.get_parameter(parameter)), parameter


@every_recipe
def test_parameters_start_xavier_uniform_with_biases_of_zero(name: str) -> None:
    for parameter, values in start(name, 0).named_parameters():
        if parameter.endswith("bias"):
            assert not values.any(), parameter
        elif not parameter.startswith("embedding."):
            bound = (6 / sum(values.shape[-2:])) ** 0.5
            assert 0 < values.abs().max() <= bound, parameter


@every_recipe
def test_evaluation_has_no_dropout_and_noise_decides_it_in_training(name: str) -> None:
    model, batch = build(small(name, tower_dropout=[0.5, 0.5]), CHAIN), draw_batch(40)

    def noisy(seed: int) -> Tensor:
        log_p: Tensor = model(batch, Mode(noise=torch.Generator().manual_seed(seed))).log_p
        return log_p

    plain = build(small(name), CHAIN)(batch).log_p
    assert torch.equal(model.train()(batch).log_p, plain) and torch.equal(model.eval()(batch).log_p, plain)
    assert torch.equal(noisy(1), noisy(1))
    assert not torch.equal(noisy(1), noisy(2)) and not torch.equal(noisy(1), plain)


@every_recipe
@every_head
def test_a_gradient_reaches_every_network_and_every_parameter(name: str, head: str) -> None:
    model, batch = build(small(name, head=head), TREE), draw_batch(64)
    log_p, log_q = model(batch)
    (-log_p.sum() - 2 * log_q.sum()).backward()
    for parameter, values in model.named_parameters():
        assert values.grad is not None and torch.all(values.grad.isfinite()), parameter
        slices = values.grad if values.dim() == 3 else values.grad[None]
        assert torch.all(slices.flatten(1).any(1)), parameter


@every_recipe
@every_head
def test_derivatives(name: str, head: str) -> None:
    model, batch = build(small(name, head=head, expert=[3], tower=[2]), CHAIN), draw_batch(4, seed=3)
    names = [parameter for parameter, _ in model.named_parameters()]

    def squares(*parameters: Tensor) -> Tensor:
        log_p, log_q = functional_call(model, dict(zip(names, parameters, strict=True)), (batch,))
        total: Tensor = (log_p * log_p + log_q * log_q).sum()
        return total

    parameters = [p.detach().clone().requires_grad_() for p in model.parameters()]
    assert torch.autograd.gradcheck(squares, parameters, fast_mode=True)
    assert torch.autograd.gradgradcheck(squares, parameters, fast_mode=True)


@every_recipe
def test_64_rows_are_overfitted(name: str) -> None:
    """Labels are drawn from nothing, so the rows must be learned by heart."""
    inputs = draw_batch(64, dtype=torch.float32)
    generator = torch.Generator().manual_seed(2)
    click = torch.rand(64, generator=generator) < 0.5
    labels = torch.stack([click, click & (torch.rand(64, generator=generator) < 0.5)], 1)
    model = recipe_of(small(name, expert=[32], tower=[16], embedding_dim=8, embedding_dims={})).build(INPUTS, CHAIN)
    model.reset("xavier_uniform", generator)
    optimizer = torch.optim.Adam(model.parameters(), 0.03)
    for _ in range(100):
        optimizer.zero_grad()
        log_p, log_q = model(inputs)
        (-torch.where(labels, log_p, log_q).mean()).backward()
        optimizer.step()
    assert torch.equal(model(inputs).log_p > model(inputs).log_q, labels)


class ByColumns(nn.Module):
    """The model as a function of tensors."""

    def __init__(self, model: FunnelModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, numeric: Tensor) -> Reach:
        reach: Reach = self.model(Batch(ids, numeric))
        return reach


@every_recipe
def test_export(name: str) -> None:
    """In evaluation, for any number of rows."""
    model = build(small(name, tower_dropout=[0.1, 0.3]), CHAIN, torch.float32).eval()
    batch, other = (draw_batch(rows, dtype=torch.float32) for rows in (6, 11))
    rows = {0: torch.export.Dim("rows")}
    program = torch.export.export(ByColumns(model), (batch.ids, batch.numeric), dynamic_shapes=(rows, rows))
    for found, expected in zip(program.module()(other.ids, other.numeric), model(other), strict=True):
        torch.testing.assert_close(found, expected)


def faults_of(settings: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        recipe_of(settings)
    return [str(fault) for fault in caught.value.faults]


@every_recipe
@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"tower_dropout": [0.1]}, "tower_dropout has 1 rates for 2 layers of tower; give one each, or []"),
        ({"tower_dropout": [0.1, 1.0]}, "tower_dropout.1: 1.0 is not allowed"),
        ({"tower": []}, "tower: "),
        ({"expert": [4, 0]}, "expert.1: 0 is not allowed"),
        ({"embedding_dim": 0}, "embedding_dim: 0 is not allowed"),
        ({"embedding_dims": {"item": -1}}, "embedding_dims.item: -1 is not allowed"),
        ({"embedding_init": "normall"}, "did you mean 'normal'?"),
        ({"head": "chian"}, "did you mean 'chain'?"),
        ({"towr": [3, 2]}, "towr: is not a setting; did you mean 'tower'?"),
    ],
)
def test_faults(name: str, changes: dict[str, Any], fault: str) -> None:
    [found] = faults_of(small(name, **changes))
    assert fault in found


@every_recipe
def test_a_width_for_a_vocabulary_that_there_is_not(name: str) -> None:
    recipe = recipe_of(small(name, embedding_dims={"itm": 3, "user": 4, "price": 2}))
    assert [str(fault) for fault in recipe.check(INPUTS)] == [
        "model.embedding_dims.itm: is no vocabulary; did you mean 'item'?",
        "model.embedding_dims.price: is no vocabulary; known: item, user",
    ]
    assert not recipe_of(small(name)).check(INPUTS)


@every_recipe
def test_an_input_that_no_model_reads_is_a_fault(name: str) -> None:
    """A network of width 0 would train on whatever the memory holds."""
    (fault,) = recipe_of(small(name)).check(InputSpec((), {}, ()))
    assert "has nothing to read" in str(fault)
