"""Every registered recipe keeps every promise of `funnelcast.testing`: a row of the table each."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pytest

from funnelcast.models.base import Recipe
from funnelcast.registry import RECIPES, recipe_of
from funnelcast.testing.cases import Case, cases
from funnelcast.testing.contracts import Promise, promises_of
from funnelcast.testing.learning import learns_64_rows_by_heart, learns_no_noise, learns_the_simulator

TARGET_ATTENTION = 17 * 6 + 7
TRANSFORMER = 4 * 4 + (4 * 4**2 + 4) + (5 * 6 + 7 * 4) + 2 * 2 * 4
"""Positions; query, key, value and mix; the network after them; two norms."""
NUMBERS = 2 + 4
"""Two as they are, and one in four chunks."""
READING = {
    "categorical": ((7 + 5) * 4, 3 * 4),
    "numeric": (0, NUMBERS),
    "multi": ((6 + 7) * 4, 3 * 4),
    "sequence": (7 * 4 + TARGET_ATTENTION + TRANSFORMER, 4 * 4),
    "all": ((7 + 5 + 6) * 4 + TARGET_ATTENTION + TRANSFORMER, 9 * 4 + NUMBERS),
}
"""By kind of features, with embeddings of 4: parameters of embedding and pooling, and numbers of a row."""


def perceptron(width: int) -> int:
    """Of [8, 6]."""
    return (width + 1) * 8 + 9 * 6


def towers(case: Case, width: int) -> int:
    """Of [7, 6], and a linear layer to one number."""
    return len(case.funnel.names) * ((width + 1) * 7 + 8 * 6 + 7)


def attention(case: Case) -> int:
    """Between vectors of 6: per edge W and b, per step with an edge into it Q, K and V."""
    edges = case.funnel.edges
    return len(edges) * (36 + 6) + len({target for _, target in edges}) * 3 * 36


def aitm(case: Case) -> int:
    reading, width = READING[case.kind]
    return reading + towers(case, width) + attention(case)


def esmm(case: Case) -> int:
    reading, width = READING[case.kind]
    return reading + towers(case, width)


def man(case: Case) -> int:
    """With 2 + 1 experts."""
    (reading, width), steps = READING[case.kind], len(case.funnel.names)
    return reading + (2 * steps + 1) * perceptron(width) + steps * (width + 1) * 3 + attention(case) + towers(case, 6)


def mmoe(case: Case) -> int:
    """With 3 experts."""
    reading, width = READING[case.kind]
    return reading + 3 * perceptron(width) + len(case.funnel.names) * (width + 1) * 3 + towers(case, 6)


def omoe(case: Case) -> int:
    """With 3 experts."""
    reading, width = READING[case.kind]
    return reading + 3 * perceptron(width) + (width + 1) * 3 + towers(case, 6)


def ple(case: Case) -> int:
    """With 2 + 1 experts and two levels, the second on vectors of 6."""
    (reading, width), steps = READING[case.kind], len(case.funnel.names)
    experts = (2 * steps + 1) * (perceptron(width) + perceptron(6))
    gates = (width + 1) * (3 * steps + 2 * steps + 1) + (6 + 1) * 3 * steps
    return reading + experts + gates + towers(case, 6)


def shared_bottom(case: Case) -> int:
    reading, width = READING[case.kind]
    return reading + perceptron(width) + towers(case, 6)


def single_task(case: Case) -> int:
    reading, width = READING[case.kind]
    return len(case.funnel.names) * (reading + perceptron(width)) + towers(case, 6)


class Row(NamedTuple):
    """Settings that make a model small, the number of its parameters, and settings with which it can learn."""

    small: dict[str, Any]
    formula: Callable[[Case], int] | None
    learner: dict[str, Any]


TOWERS = {"embedding_dim": 4, "tower": [7, 6], "tower_dropout": []}
EXPERTS = TOWERS | {"expert": [8, 6]}
WIDE_TOWERS = {"embedding_dim": 8, "tower": [32, 16], "tower_dropout": []}
WIDE_EXPERTS = WIDE_TOWERS | {"expert": [32, 16], "tower": [16]}
SPLIT, WIDE_SPLIT = ({"experts_per_step": 2, "shared_experts": n} for n in (1, 2))
TABLE = {
    "aitm": Row(TOWERS, aitm, WIDE_TOWERS),
    "esmm": Row(TOWERS, esmm, WIDE_TOWERS),
    "lightgbm": Row(
        {"rounds": 4, "num_leaves": 4, "min_rows_per_leaf": 1},
        None,
        {"rounds": 400, "learning_rate": 0.1, "min_rows_per_leaf": 1, "patience": 20},
    ),
    "man": Row(EXPERTS | SPLIT, man, WIDE_EXPERTS | WIDE_SPLIT),
    "mmoe": Row(EXPERTS | {"experts": 3}, mmoe, WIDE_EXPERTS | {"experts": 4}),
    "omoe": Row(EXPERTS | {"experts": 3}, omoe, WIDE_EXPERTS | {"experts": 4}),
    "ple": Row(EXPERTS | SPLIT | {"levels": 2}, ple, WIDE_EXPERTS | WIDE_SPLIT),
    "shared_bottom": Row(EXPERTS, shared_bottom, WIDE_EXPERTS),
    "single_task": Row(EXPERTS, single_task, WIDE_EXPERTS),
}


def promised(*, slow: bool, part: slice = slice(None)) -> list[Any]:
    """Every promise, and the cases of one recipe and funnel that have to keep it: one per kind of features, a part of
    them, each time of other kinds."""
    groups: dict[str, tuple[Promise, list[Case]]] = {}
    for name, row in TABLE.items():
        for case in cases(recipe_of(row.small | {"name": name}), row.formula):
            for promise in promises_of(case, slow=slow):
                groups.setdefault(f"{name}, {case.shape}, {promise.__name__}", (promise, []))[1].append(case)
    return [
        pytest.param(promise, (found[i % len(found) :] + found[: i % len(found)])[part], id=name)
        for i, (name, (promise, found)) in enumerate(groups.items())
    ]


def keep(promise: Promise, kept_by: Iterable[Case]) -> None:
    """See that cases keep a promise; whoever does not is named."""
    for case in kept_by:
        try:
            promise(case)
        except Exception as error:
            error.add_note(str(case))
            raise


def test_every_registered_recipe_is_in_the_table() -> None:
    assert set(TABLE) == set(RECIPES)


@pytest.mark.parametrize(("promise", "kept_by"), promised(slow=False, part=slice(2)))
def test_promises(promise: Promise, kept_by: list[Case]) -> None:
    keep(promise, kept_by)


@pytest.mark.slow
@pytest.mark.parametrize(("promise", "kept_by"), promised(slow=False, part=slice(2, None)))
def test_promises_with_other_kinds_of_features(promise: Promise, kept_by: list[Case]) -> None:
    keep(promise, kept_by)


@pytest.mark.slow
@pytest.mark.parametrize(("promise", "kept_by"), promised(slow=True))
def test_promises_that_take_long(promise: Promise, kept_by: list[Case]) -> None:
    keep(promise, kept_by)


def hashed(case: Case) -> int:
    """Of an MMoE with 3 experts on 16 buckets and the numbers."""
    width, steps = 16 + (NUMBERS if case.inputs.numeric else 0), len(case.funnel.names)
    return 3 * perceptron(width) + steps * (width + 1) * 3 + towers(case, 6)


def members(case: Case) -> int:
    """Two networks of MAN with 2 + 1 experts on one embedding and target statistics."""
    reading, width = READING[case.kind]
    steps, categories = len(case.funnel.names), len(case.inputs.fields + case.inputs.numeric + case.inputs.lists)
    width += categories * (1 + steps + sum(parent >= 0 for parent in case.funnel.parents))
    one = (2 * steps + 1) * perceptron(width) + steps * (width + 1) * 3 + attention(case) + towers(case, 6)
    return reading + 2 * one


def twice(formula: Callable[[Case], int], copies: Callable[[Case], int] = lambda case: 1) -> Callable[[Case], int]:
    """Two members, of which each has all but the embedding; `copies` of it."""
    return lambda case: 2 * formula(case) - copies(case) * READING[case.kind][0]


VARIANTS: dict[str, tuple[str, dict[str, Any], Callable[[Case], int] | None]] = {
    "hashed ids": ("mmoe", {"embedding": "none", "hashed_width": 16}, hashed),
    "target statistics of trees": ("lightgbm", {"ids": "target_statistics"}, None),
    "members, target statistics": ("man", {"members": 2, "statistics": {}}, members),
    "members without trunks": ("aitm", {"members": 2}, twice(aitm)),
    "members with copies": ("single_task", {"members": 2}, twice(single_task, lambda case: len(case.funnel.names))),
    "members of one vector": ("shared_bottom", {"members": 2, "loss_space": "given_parent"}, twice(shared_bottom)),
}
"""Other ways to read ids, and several networks in one."""


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_promises_of_variants(variant: str) -> None:
    name, changes, formula = VARIANTS[variant]
    kept = {k: v for k, v in TABLE[name].small.items() if not (formula is hashed and k.startswith("embedding_dim"))}
    for case in cases(recipe_of(kept | {"name": name} | changes), formula):
        if case.shape == "tree" or (case.shape == "chain of 2" and case.kind == "all"):
            for promise in promises_of(case):
                keep(promise, [case])


@pytest.mark.slow
def test_members_and_statistics_export() -> None:
    name, changes, formula = VARIANTS["members, target statistics"]
    for case in cases(recipe_of(TABLE[name].small | {"name": name} | changes), formula):
        for promise in promises_of(case, slow=True):
            keep(promise, [case])


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("promise", [learns_64_rows_by_heart, learns_the_simulator, learns_no_noise])
def test_promises_of_learning(promise: Callable[[Recipe], None], name: str) -> None:
    promise(recipe_of(TABLE[name].learner | {"name": name}))
