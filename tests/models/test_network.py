"""What networks share: groups of parameters, their start, dropout, settings of towers and experts, default sizes."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from funnelcast.errors import ConfigError
from funnelcast.models.network import GROUPS, TOP, FunnelModel, NetworkRecipe
from funnelcast.ops import DropoutKey
from funnelcast.registry import RECIPES, recipe_of
from tests.models.reference import FUNNELS, LISTED, PLAIN, build, draw_batch, small

NETWORKS = [name for name, recipe in RECIPES.items() if issubclass(recipe, NetworkRecipe)]
CHAIN, TREE = FUNNELS["chain"], FUNNELS["tree"]
POOLING = {"viewed": {"kind": "target_attention", "field": "item"}, "bought": {"kind": "transformer"}}
every_network = pytest.mark.parametrize("name", NETWORKS)


def parts_of(name: str, attention: str) -> set[str]:
    """Groups that have parameters."""
    found = {"embedding", "pooling", "towers"}
    found |= {"experts"} if name not in ("aitm", "esmm") else set()
    found |= {"gates"} if name in ("man", "mmoe", "omoe", "ple") else set()
    return found | ({"attention"} if name == "aitm" or (name == "man" and attention != "none") else set())


@pytest.mark.parametrize(
    ("name", "attention"),
    [(n, a) for n in NETWORKS for a in ("gated", "tower_top", "none") if n == "man" or a == "none"],
)
@pytest.mark.parametrize("levels", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_groups_part_the_parameters(name: str, attention: str, levels: int) -> None:
    settings = small(name, pooling=POOLING) | ({"attention": attention} if name == "man" else {})
    model = build(settings | ({"levels": levels} if name in ("man", "ple") else {}), TREE, LISTED)
    names = [parameter for group in GROUPS for parameter in model.groups([group])]
    assert len(names) == len(set(names)) and set(names) == {n for n, _ in model.named_parameters()}
    assert {group for group in GROUPS if model.groups([group])} == parts_of(name, attention)
    for some in itertools.combinations(GROUPS, 2):
        assert list(model.groups(some).values()) == [p for n, p in model.named_parameters() if n in model.groups(some)]
    assert TOP == ("gates", "attention", "towers")


def test_a_frozen_vocabulary_is_in_no_group() -> None:
    model = build(small("mmoe", pretrained={"user": {"file": "vectors.parquet", "frozen": True}}), CHAIN)
    still = {name for name, _ in model.named_parameters()} - set(model.groups(GROUPS))
    assert len(still) == 1 and model.get_parameter(still.pop()).shape == (5, 2)


def start(name: str, **changes: Any) -> FunnelModel:
    model = recipe_of(small(name, pooling=POOLING, **changes)).build(LISTED, TREE)
    assert isinstance(model, FunnelModel)
    model.reset("xavier_uniform", torch.Generator().manual_seed(3))
    return model


@every_network
def test_parameters_start_xavier_uniform_with_biases_of_zero(name: str) -> None:
    """Norms start as they are, positions near 0."""
    for parameter, values in start(name).named_parameters():
        if parameter.endswith("bias"):
            assert not values.any(), parameter
        elif parameter.endswith("scale"):
            assert torch.all(values == 1), parameter
        elif "positions" in parameter:
            assert 0 < values.std() < 0.04, parameter
        elif not parameter.startswith("embedding."):
            bound = (6 / sum(values.shape[-2:])) ** 0.5
            assert 0 < values.abs().max() <= bound, parameter


def test_embeddings_of_every_step_start_as_wide_as_shared_ones() -> None:
    """The bound of a vocabulary of V ids and vectors of E is sqrt(6 / (V + E)), however many steps have one."""
    table = start("single_task", embedding_dim=4, embedding_dims={}).embedding.all_tables()[0]
    for name, rows in table.blocks().items():
        bound = (6 / (LISTED.sizes[name] + 4)) ** 0.5
        assert 0.9 * bound < rows.abs().max() <= bound, name


def key_of(seed: int) -> DropoutKey:
    return DropoutKey(torch.tensor([seed]), 1000)


@every_network
def test_evaluation_has_no_dropout_and_the_key_decides_it_in_training(name: str) -> None:
    batch = draw_batch(40)
    model = build(small(name, tower_dropout=[0.5, 0.5]), CHAIN)

    def noisy(seed: int) -> Tensor:
        log_p: Tensor = model(batch, key_of(seed)).log_p
        return log_p

    plain = build(small(name), CHAIN)(batch).log_p
    assert torch.equal(model.train()(batch).log_p, plain) and torch.equal(model.eval()(batch).log_p, plain)
    assert torch.equal(noisy(1), noisy(1))
    assert not torch.equal(noisy(1), noisy(2)) and not torch.equal(noisy(1), plain)


def test_the_transformers_dropout_is_by_the_key_too() -> None:
    pooling = {"bought": {"kind": "transformer", "dropout": 0.5}}
    model, batch = build(small("esmm", pooling=pooling), CHAIN, LISTED), draw_batch(20, inputs=LISTED)
    one, two = (model(batch, key_of(seed)).log_p for seed in (1, 2))
    assert not torch.equal(one, two) and torch.equal(model.train()(batch).log_p, model.eval()(batch).log_p)


@every_network
def test_blocks_of_rows_have_the_dropout_that_they_have_alone(name: str) -> None:
    """The last one is shorter; what one block samples changes no other's."""
    pooling = {"bought": {"kind": "transformer", "dropout": 0.5}}
    model = build(small(name, tower_dropout=[0.5, 0.5], pooling=pooling), CHAIN, LISTED)
    batch, seeds = draw_batch(600, inputs=LISTED), torch.tensor([3, 1])
    found = model(batch, DropoutKey(seeds, 400)).log_p
    parts = [batch.slice(0, 400), batch.slice(400, 600)]
    expected = [model(part, DropoutKey(seed, 400)).log_p for part, seed in zip(parts, seeds.split(1), strict=True)]
    torch.testing.assert_close(found, torch.cat(expected))


@every_network
@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"tower_dropout": [0.1]}, "tower_dropout has 1 rates for 2 layers of tower; give one each, or []"),
        ({"tower_dropout": [0.1, 1.0]}, "tower_dropout.1: 1.0 is not allowed"),
        ({"tower": []}, "tower: "),
        ({"tower": [4, 0]}, "tower.1: 0 is not allowed"),
        ({"towr": [3, 2]}, "towr: is not a setting; did you mean 'tower'?"),
    ],
)
def test_faults(name: str, changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        recipe_of(small(name, **changes))
    [found] = caught.value.faults
    assert fault in str(found)


@pytest.mark.parametrize(
    ("name", "changes", "fault"),
    [
        ("man", {"expert": [4, 0]}, "expert.1: 0 is not allowed"),
        ("omoe", {"expert": []}, "expert: "),
        ("man", {"experts_per_step": 0}, "experts_per_step: 0 is not allowed"),
        ("ple", {"experts_per_step": 0}, "experts_per_step: 0 is not allowed"),
        ("man", {"shared_experts": -1}, "shared_experts: -1 is not allowed"),
        ("ple", {"levels": 0}, "levels: 0 is not allowed"),
        ("mmoe", {"experts": 0}, "experts: 0 is not allowed"),
        ("omoe", {"experts_per_step": 2}, "experts_per_step: is not a setting; did you mean 'experts'?"),
        (
            "man",
            {"attention": "gates"},
            "attention: 'gates' is not one of gated, tower_top, none; did you mean 'gated'?",
        ),
        ("man", {"shared_expert": 1}, "shared_expert: is not a setting; did you mean 'shared_experts'?"),
        ("shared_bottom", {"attention": "none"}, "attention: is not a setting"),
        ("esmm", {"expert": [4]}, "expert: is not a setting"),
        ("aitm", {"expert": [4]}, "expert: is not a setting"),
        ("aitm", {"calibrator": -0.1}, "calibrator: -0.1 is not allowed"),
        ("esmm", {"calibrator": 0.6}, "calibrator: is not a setting"),
        (
            "single_task",
            {"shared_embeddings": True},
            "shared_embeddings: is not a setting; did you mean 'shared_embedding'?",
        ),
    ],
)
def test_faults_of_single_recipes(name: str, changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        recipe_of(small(name, **changes))
    [found] = caught.value.faults
    assert fault in str(found)


EXPERT = 17 * 256 + 257 * 128
TOWER = 129 * 128 + 129 * 16 + 17 * 32 + 33
"""On an expert; the towers of ESMM and AITM read the embedding."""
ON_EMBEDDING = 17 * 128 + 129 * 64 + 65 * 32
SIZES = {
    "aitm": 2 * (ON_EMBEDDING + 33) + 33 * 32 + 3 * 32**2,
    "esmm": 2 * (ON_EMBEDDING + 33),
    "man": 12 * EXPERT + 2 * 17 * 8 + (129 * 128 + 3 * 128**2) + 2 * TOWER,
    "mmoe": 8 * EXPERT + 2 * 17 * 8 + 2 * TOWER,
    "omoe": 8 * EXPERT + 17 * 8 + 2 * TOWER,
    "ple": 12 * EXPERT + 2 * 17 * 8 + 2 * TOWER,
    "shared_bottom": EXPERT + 2 * TOWER,
    "single_task": 2 * EXPERT + 2 * TOWER + 12 * 5,
}


@every_network
def test_number_of_parameters_at_the_papers_sizes(name: str) -> None:
    """By hand, with rows (5 + 7) · 5 and an x of 16."""
    model = recipe_of({"name": name}).build(PLAIN, CHAIN)
    assert isinstance(model, FunnelModel)
    assert sum(p.numel() for p in model.parameters()) == 12 * 5 + SIZES[name]


def test_a_steps_gate_reaches_another_step_by_attention_alone() -> None:
    batch = draw_batch(8)
    for attention, edges in (("gated", True), ("tower_top", True), ("none", False)):
        model = build(small("man", attention=attention), FUNNELS["parallel"])
        before = model(batch).log_p
        with torch.no_grad():
            model.get_parameter("trunk.gates.logits.0.weight").mul_(-2)
        marital, income = (model(batch).log_p != before).any(0).tolist()
        assert marital and income == edges


def test_steps_of_single_task_share_nothing() -> None:
    """A gradient of one step reaches its own part of a table alone, and its own networks."""
    settings = small("single_task", pooling=POOLING, expert=[8, 6], tower=[6, 6])
    model, batch = build(settings, CHAIN, LISTED), draw_batch(20, inputs=LISTED)
    for step in range(2):
        gradients = torch.autograd.grad(model(batch).log_p[:, step].sum(), list(model.parameters()))
        for (name, parameter), gradient in zip(model.named_parameters(), gradients, strict=True):
            parts = gradient.chunk(2, dim=1 if name.startswith("embedding.") or "positions" in name else 0)
            assert [bool(part.any()) for part in parts] == [step == 0, step == 1], (name, parameter.shape)
