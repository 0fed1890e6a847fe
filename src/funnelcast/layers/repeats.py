"""Fields of few ids, whose vectors repeat in a batch: a first layer multiplies each distinct one once, not every row.

With x = [dense, v₁, v₂, …] the first layer is x W = dense W₀ + Σ_g T_g[code_g], where T_g = V_g W_g and V_g holds the
distinct vectors of neighbouring fields g together. The gradient by T_g is a sum over the rows of a code, so that those
by W_g and V_g are products of few rows too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from itertools import accumulate
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from funnelcast.compiled import compiled
from funnelcast.layers.tape import perform

GROUP: Final = np.dtype([(name, np.int64) for name in (
    "start", "width",  # columns of x
    "first", "size",  # distinct vectors, of all groups one after the other
    "at",  # where they begin, in numbers
)])  # fmt: skip
"""Neighbouring fields, and what a batch holds of them."""
NO_GROUPS: Final = np.zeros(0, GROUP)
_PART: Final = np.dtype([(name, np.int64) for name in ("group", "column", "times")])
"""A field: its group, its column of a batch's ids, and what its id counts in the group's code."""

_ROWS: Final = 2048
"""Of a usual batch. What is taken together does not depend on the actual one, nor does a row's sum."""
_LARGEST: Final = 128
"""Codes of a group, so that what is looked up stays in the cache."""
_MOST: Final = 512
"""Of all groups."""
_GATHER: Final = 2
"""Columns of a product that take as long as looking up one group, forward and back."""


class Field(NamedTuple):
    """A field of one id."""

    column: int  # of a batch's ids
    size: int
    """Ids that there are."""
    start: int  # of an embedded row
    width: int


class Plan(NamedTuple):
    """Which fields are taken together."""

    groups: NDArray[np.void]
    """`size` is of all combinations."""
    parts: NDArray[np.void]
    width: int
    """Columns of all groups."""
    vectors: int
    """Distinct ones at most."""
    numbers: int
    """In these."""


class Repeats:
    """The rows of an embedded batch in parts."""

    def __init__(self, plan: Plan, ids: Tensor, x: Tensor) -> None:
        """`x` (B, D): what was looked up for `ids` (B, F), float32 on the CPU."""
        self.of, self.groups = x, plan.groups.copy()
        self.count = plan.vectors
        """Of all groups, at most: there is room for so many."""
        self.codes = np.empty((len(x), len(plan.groups)), np.int32)
        """Each group's vector, counted through."""
        self.readers = np.empty(plan.vectors, np.int64)
        """A row of x that has it."""
        self.vectors = np.empty(plan.numbers, np.float32)
        """Each group's (size, width), one after the other."""
        self.dense = x.new_empty(len(x), x.shape[1] - plan.width)
        """The columns of no group."""
        made = (self.codes, self.readers, self.vectors, self.dense.numpy())
        perform(_split, ids.numpy(), x.detach().numpy(), plan.parts, plan.groups, self.groups, *made)


def repeats_of(fields: tuple[Field, ...], ids: Tensor, x: Tensor) -> Repeats | None:
    """None where there is nothing to gain. `x`: float32 on the CPU."""
    plan = _plan(fields, x.shape[1])
    return Repeats(plan, ids, x) if len(plan.groups) and len(x) else None


@cache
def _plan(fields: tuple[Field, ...], columns: int) -> Plan:
    """The groups that cost least."""
    chosen = _within_reach(_cheapest(tuple(sorted(fields, key=lambda field: field.start))))
    if sum(map(_width, chosen)) == columns:
        chosen = chosen[:-1]  # a product has some columns
    groups, parts = np.zeros(len(chosen), GROUP), []
    for g, group in enumerate(chosen):
        groups[g] = group[0].start, _width(group), 0, _size(group), 0
        times = 1
        for field in group:
            parts.append((g, field.column, times))
            times *= field.size
    sizes, widths = groups["size"], groups["width"]
    return Plan(groups, np.array(parts, _PART), int(widths.sum()), int(sizes.sum()), int(sizes @ widths))


Group = tuple[Field, ...]


def _cheapest(fields: Group) -> tuple[Group, ...]:
    """By the best choice for each leading part of the fields, in the unit of a row times a column."""
    best: list[tuple[int, tuple[Group, ...]]] = [(0, ())]
    for end in range(1, len(fields) + 1):
        cost, groups = best[end - 1]
        options = [(cost + _ROWS * fields[end - 1].width, groups)]
        for group in _groups_before(fields, end):
            cost, groups = best[end - len(group)]
            options.append((cost + _GATHER * _ROWS + _size(group) * _width(group), (*groups, group)))
        best.append(min(options, key=lambda option: option[0]))
    return best[-1][1]


def _within_reach(groups: tuple[Group, ...]) -> tuple[Group, ...]:
    """Those that save most for each code, up to `_MOST` codes."""
    ordered = sorted(groups, key=lambda group: (_GATHER - _width(group)) / _size(group))
    counts = accumulate(_size(group) for group in ordered)
    kept = {group for group, count in zip(ordered, counts, strict=True) if count <= _MOST}
    return tuple(group for group in groups if group in kept)


def _groups_before(fields: Group, end: int) -> Iterator[Group]:
    """Neighbours of which the last is `fields[end - 1]`."""
    for begin in range(end - 1, -1, -1):
        group = fields[begin:end]
        if _size(group) > _LARGEST or (len(group) > 1 and group[0].start + group[0].width != group[1].start):
            return
        yield group


def _size(group: Group) -> int:
    """Combinations of ids."""
    return math.prod(field.size for field in group)


def _width(group: Group) -> int:
    return sum(field.width for field in group)


@compiled
def _split(
    ids: Any, x: Any, parts: Any, every: Any, groups: Any, codes: Any, readers: Any, vectors: Any, dense: Any
) -> None:
    """Fills the last five: `groups` like those of `every`, with what there is."""
    count = at = done = to = part = 0
    for g in range(len(groups) + 1):
        end = groups[g].start if g < len(groups) else x.shape[1]
        rest, source = dense[:, to : to + end - done], x[:, done:end]
        for r in range(len(x)):
            for j in range(end - done):
                rest[r, j] = source[r, j]
        to += end - done
        if g == len(groups):
            break
        width, first, known = groups[g].width, count, np.full(every[g].size, -1, np.int32)
        own = np.zeros(len(x), np.int32)
        while part < len(parts) and parts[part].group == g:
            column, times = parts[part].column, parts[part].times
            for r in range(len(x)):
                own[r] += np.int32(ids[r, column] * times)
            part += 1
        for r in range(len(x)):
            code = known[own[r]]
            if code < 0:
                code = known[own[r]] = np.int32(count)
                readers[count] = r
                count += 1
            codes[r, g] = code
        groups[g].first, groups[g].size, groups[g].at = first, count - first, at
        done, source = end + width, x[:, end : end + width]
        for v in range(first, count):
            vector = vectors[at:]
            for j in range(width):
                vector[j] = source[readers[v], j]
            at += width
