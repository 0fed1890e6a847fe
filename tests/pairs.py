"""Cases of a law that depends on several settings: every pair of their values, not every combination."""

from collections.abc import Iterable, Sequence
from itertools import combinations, product
from typing import Any

Pair = tuple[int, int, int, int]


def pairwise(*settings: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Few tuples, one value of each setting, such that any two values of two settings meet in one of them."""
    values = [list(each) for each in settings]
    every = list(product(*(range(len(own)) for own in values)))
    left = {pair for each in every for pair in _pairs(each)}
    chosen = list[tuple[int, ...]]()
    while left:
        chosen.append(max(every, key=lambda each: len(left & _pairs(each))))
        left -= _pairs(chosen[-1])
    return [tuple(own[i] for own, i in zip(values, each, strict=True)) for each in sorted(chosen)]


def _pairs(indices: Sequence[int]) -> set[Pair]:
    return {(i, indices[i], j, indices[j]) for i, j in combinations(range(len(indices)), 2)}
