"""Deduplicated inputs: fields of few ids, whose vectors a first layer multiplies once each and not once a row.

With x = [dense, v₁, v₂, …] the first layer is x W = dense W₀ + Σ_g T_g[inverse_g], where T_g = V_g W_g, V_g (C, width)
holds the vector of each combination of ids of neighbouring fields g, and inverse_g (B,) says which one a row has, as
`torch.unique` returns it. Kernels look T_g up and add up its gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache, cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from funnelcast.compiled import compiled
from funnelcast.kernels.cpu.buffers import arrays
from funnelcast.kernels.cpu.graph import launch, once

_ROWS: Final = 2048
"""Of a usual batch. What is taken together does not depend on the actual one, nor does a row's sum."""
_LARGEST: Final = 128
"""Combinations of ids of a group, so that what is looked up stays in cache."""
_MOST: Final = 512
"""Combinations of ids of all groups."""
_GATHER: Final = 2
"""Columns of a product that take as long as looking up one group, forward and backward."""

Field = tuple[int, int, int, int]
"""(column of a batch's ids, number of ids, first column of x, width)."""
Group = tuple[Field, ...]


class _Span(NamedTuple):
    """Neighbouring columns of x: those of a group, or of no group."""

    start: int
    width: int
    group: Group


def deduplicate(x: Tensor, ids: Tensor | None, fields: tuple[Field, ...]) -> Tensor:
    """`ops.deduplicate`."""
    if ids is not None and len(x) and (spans := _spans(fields, x.shape[1])):
        x._deduplicated = Deduplicated(ids, spans)  # type: ignore[attr-defined]
    return x


def deduplicated(x: Tensor) -> Deduplicated | None:
    """What `deduplicate` found in this very tensor."""
    found = getattr(x, "_deduplicated", None)
    return found if isinstance(found, Deduplicated) else None


class Deduplicated:
    """What is known of the columns of x (B, D). It is a tensor's own attribute, so it must not hold that tensor."""

    def __init__(self, ids: Tensor, spans: tuple[_Span, ...]) -> None:
        self._ids, self._spans = ids, spans

    @cached_property
    def _unique(self) -> tuple[Tensor, Tensor]:
        """`inverse`, and a row (C,) that has each combination of ids, 0 where none has."""
        fields, sizes = _fields_of(self._spans)
        inverse = torch.empty(len(self._ids), len(sizes), dtype=torch.int32)
        representatives = torch.empty(sum(sizes), dtype=torch.int64)
        launch(_index, fields, *arrays(self._ids, inverse, representatives))
        return inverse, representatives

    @property
    def inverse(self) -> Tensor:
        """(B, G) int32: the row of all groups' tables, one after the other, that each row reads."""
        return self._unique[0]

    def first_layer(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of x and a first layer (N, D, H): the input and the weight of columns of no group, and tables (N, C, H)."""
        found: tuple[Tensor, Tensor, Tensor]
        found = _FirstLayer.apply(x, weight, self._spans, self._unique[1])  # type: ignore[no-untyped-call]
        return found


@compiled
def _index(fields: Any, ids: Any, inverse: Any, representatives: Any) -> None:
    """Fields (n, 4): group, column of `ids`, what its id counts in the index, and where the group's indices begin."""
    representatives[:] = 0
    for r in range(len(ids)):
        for f in range(len(fields)):
            group, column, times, start = fields[f]
            if times == 1:
                inverse[r, group] = start
            inverse[r, group] += np.int32(ids[r, column] * times)
        for g in range(inverse.shape[1]):
            representatives[inverse[r, g]] = r


class _FirstLayer(torch.autograd.Function):
    """x (B, D) and weight (N, D, H) -> both without groups, and the tables (N, C, H). Backward, a vector's gradient
    goes to one of its rows: whoever adds up by ids gets the same."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, spans: tuple[_Span, ...], representatives: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        tables = weight.new_empty(len(weight), len(representatives), weight.shape[2])
        ctx.spans, ctx.shape, ctx.representatives = spans, x.shape, representatives
        vectors = [x.narrow(1, *columns).index_select(0, own) for columns, _, own in _groups(spans, representatives)]
        for of_group, (columns, rows, _) in zip(vectors, _groups(spans, representatives), strict=True):
            of_all = of_group.expand(len(weight), -1, -1)
            torch.bmm(of_all, weight.narrow(1, *columns), out=tables.narrow(1, *rows))
        ctx.save_for_backward(weight, *vectors)
        return _without_groups(x, spans), _without_groups(weight, spans), tables

    @staticmethod
    def backward(ctx: Any, dense: Tensor, of_dense: Tensor, tables: Tensor) -> tuple[Tensor, Tensor, None, None]:
        once()
        weight, *vectors = ctx.saved_tensors
        grad_x, grad_weight, at = dense.new_empty(ctx.shape), torch.empty_like(weight), 0
        for span in (span for span in ctx.spans if not span.group):
            grad_x.narrow(1, span.start, span.width).copy_(dense.narrow(1, at, span.width))
            grad_weight.narrow(1, span.start, span.width).copy_(of_dense.narrow(1, at, span.width))
            at += span.width
        for of_group, (columns, rows, representatives) in zip(
            vectors, _groups(ctx.spans, ctx.representatives), strict=True
        ):
            grad, of_all = tables.narrow(1, *rows), of_group.t().expand(len(weight), -1, -1)
            torch.bmm(of_all, grad, out=grad_weight.narrow(1, *columns))
            by_vector = grad.bmm(weight.narrow(1, *columns).transpose(1, 2)).sum(0)
            grad_x.narrow(1, *columns).zero_().index_add_(0, representatives, by_vector)
        return grad_x, grad_weight, None, None


def _groups(
    spans: tuple[_Span, ...], representatives: Tensor
) -> Iterator[tuple[tuple[int, int], tuple[int, int], Tensor]]:
    """Of each group: (start, number) of its columns of x and of its table's rows, and a representative row of each."""
    at = 0
    for span in spans:
        if span.group:
            size = _size(span.group)
            yield (span.start, span.width), (at, size), representatives.narrow(0, at, size)
            at += size


def _without_groups(x: Tensor, spans: tuple[_Span, ...]) -> Tensor:
    return torch.cat([x.narrow(1, span.start, span.width) for span in spans if not span.group], 1)


@cache
def _fields_of(spans: tuple[_Span, ...]) -> tuple[NDArray[np.int64], list[int]]:
    """What `_index` reads of groups, and the number of combinations of ids of each."""
    groups, rows, start = [span.group for span in spans if span.group], list[tuple[int, ...]](), 0
    for g, group in enumerate(groups):
        times = 1
        for column, size, _, _ in group:
            rows.append((g, column, times, start))
            times *= size
        start += _size(group)
    return np.array(rows, np.int64), [_size(group) for group in groups]


@cache
def _spans(fields: tuple[Field, ...], columns: int) -> tuple[_Span, ...]:
    """All columns of x by groups; () where there is nothing to gain."""
    chosen, total = list[Group](), 0
    for group in sorted(_neighbours(fields), key=_saved, reverse=True):
        if _saved(group) > 0 and total + _size(group) <= _MOST:
            chosen, total = [*chosen, group], total + _size(group)
    if sum(map(_width, chosen)) == columns:
        chosen.pop()  # a product has some columns
    spans, done = list[_Span](), 0
    for group in sorted(chosen, key=_start):
        spans += [_Span(done, _start(group) - done, ())] if _start(group) > done else []
        spans.append(_Span(_start(group), _width(group), group))
        done = _start(group) + _width(group)
    spans += [_Span(done, columns - done, ())] if done < columns else []
    return tuple(spans) if chosen else ()


def _neighbours(fields: Group) -> Iterator[Group]:
    """Fields side by side, taken together up to `_LARGEST` combinations of ids."""
    group: Group = ()
    for field in sorted(fields, key=lambda field: field[2]):
        if group and (_size((*group, field)) > _LARGEST or _start(group) + _width(group) != field[2]):
            yield group
            group = ()
        group = (*group, field)
    if group:
        yield group


def _saved(group: Group) -> float:
    """Elements of work for each combination of ids that looking a group up saves in a usual batch."""
    return (_ROWS * (_width(group) - _GATHER)) / _size(group) - _width(group)


def _start(group: Group) -> int:
    return group[0][2]


def _size(group: Group) -> int:
    """Combinations of ids."""
    return math.prod(size for _, size, _, _ in group)


def _width(group: Group) -> int:
    return sum(width for _, _, _, width in group)
