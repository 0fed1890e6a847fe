"""Deduplicated inputs: fields of few ids, whose vectors a first layer multiplies once each and not once a row.

With x = [dense, v₁, v₂, …] the first layer is x W = dense W₀ + Σ_g T_g[code_g], where T_g = V_g W_g and V_g (C, width)
holds the vector of each combination of ids of neighbouring fields g. Autograd differentiates V_g W_g; kernels look T_g
up and add up its gradient.
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
from funnelcast.kernels.cpu.graph import launch

_ROWS: Final = 2048
"""Of a usual batch. What is taken together does not depend on the actual one, nor does a row's sum."""
_LARGEST: Final = 128
"""Codes of a group, so that what is looked up stays in cache."""
_MOST: Final = 512
"""Codes of all groups."""
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
    def _coded(self) -> tuple[Tensor, Tensor]:
        """`codes`, and a row (C,) that has each of them, 0 where none has."""
        fields, sizes = _fields_of(self._spans)
        codes = torch.empty(len(self._ids), len(sizes), dtype=torch.int32)
        readers = torch.empty(sum(sizes), dtype=torch.int64)
        launch(_code, fields, *arrays(self._ids, codes, readers))
        return codes, readers

    @property
    def codes(self) -> Tensor:
        """(B, G) int32: the row of all groups' tables, one after the other, that each row reads."""
        return self._coded[0]

    def first_layer(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of x and a first layer (N, D, H): the input and the weight of columns of no group, and tables (N, C, H)."""
        dense, *vectors = _Parts.apply(x, self._spans, self._coded[1])  # type: ignore[no-untyped-call]
        of_dense, *by_group = _Rows.apply(weight, self._spans)  # type: ignore[no-untyped-call]
        pairs = zip(vectors, by_group, strict=True)
        return dense, of_dense, torch.cat([own.expand(len(rows), -1, -1).bmm(rows) for own, rows in pairs], 1)


@compiled
def _code(fields: Any, ids: Any, codes: Any, readers: Any) -> None:
    """fields (n, 4): group, column of `ids`, what its id counts in the code, and where the group's codes begin."""
    readers[:] = 0
    for r in range(len(ids)):
        for f in range(len(fields)):
            group, column, times, start = fields[f]
            if times == 1:
                codes[r, group] = start
            codes[r, group] += np.int32(ids[r, column] * times)
        for g in range(codes.shape[1]):
            readers[codes[r, g]] = r


class _Parts(torch.autograd.Function):
    """x (B, D) -> the columns of no group (B, D'), and by group the vectors (C, width) of its combinations. Backward,
    a vector's gradient goes to one of its rows: whoever adds up by ids gets the same."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, spans: tuple[_Span, ...], readers: Tensor) -> tuple[Tensor, ...]:
        groups = [span for span in spans if span.group]
        ctx.spans, ctx.shape, ctx.readers = spans, x.shape, readers.split([_size(span.group) for span in groups])
        pairs = zip(groups, ctx.readers, strict=True)
        vectors = [x.narrow(1, span.start, span.width).index_select(0, own) for span, own in pairs]
        return _without_groups(x, 1, spans), *vectors

    @staticmethod
    def backward(ctx: Any, dense: Tensor, *vectors: Tensor) -> tuple[Tensor, None, None]:
        grad, found, at = dense.new_zeros(ctx.shape), iter(zip(vectors, ctx.readers, strict=True)), 0
        for span in ctx.spans:
            to = grad.narrow(1, span.start, span.width)
            if span.group:
                by_vector, readers = next(found)
                to.index_add_(0, readers, by_vector)
            else:
                to.copy_(dense.narrow(1, at, span.width))
                at += span.width
        return grad, None, None


class _Rows(torch.autograd.Function):
    """Weight (N, D, H) -> the rows of no group (N, D', H), and those of each group (N, width, H)."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, spans: tuple[_Span, ...]) -> tuple[Tensor, ...]:
        ctx.spans, ctx.shape = spans, weight.shape
        groups = [weight.narrow(1, span.start, span.width).clone() for span in spans if span.group]
        return _without_groups(weight, 1, spans), *groups

    @staticmethod
    def backward(ctx: Any, dense: Tensor, *groups: Tensor) -> tuple[Tensor, None]:
        grad, own, at = dense.new_empty(ctx.shape), iter(groups), 0
        for span in ctx.spans:
            to = grad.narrow(1, span.start, span.width)
            if span.group:
                to.copy_(next(own))
            else:
                to.copy_(dense.narrow(1, at, span.width))
                at += span.width
        return grad, None


def _without_groups(x: Tensor, dim: int, spans: tuple[_Span, ...]) -> Tensor:
    return torch.cat([x.narrow(dim, span.start, span.width) for span in spans if not span.group], dim)


@cache
def _fields_of(spans: tuple[_Span, ...]) -> tuple[NDArray[np.int64], list[int]]:
    """What `_code` reads of groups, and the number of codes of each."""
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
    chosen, codes = list[Group](), 0
    for group in sorted(_neighbours(fields), key=_saved, reverse=True):
        if _saved(group) > 0 and codes + _size(group) <= _MOST:
            chosen, codes = [*chosen, group], codes + _size(group)
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
    """Fields side by side, taken together up to `_LARGEST` codes."""
    group: Group = ()
    for field in sorted(fields, key=lambda field: field[2]):
        if group and (_size((*group, field)) > _LARGEST or _start(group) + _width(group) != field[2]):
            yield group
            group = ()
        group = (*group, field)
    if group:
        yield group


def _saved(group: Group) -> float:
    """Elements of work for each code that looking a group up saves in a usual batch."""
    return (_ROWS * (_width(group) - _GATHER)) / _size(group) - _width(group)


def _start(group: Group) -> int:
    return group[0][2]


def _size(group: Group) -> int:
    """Combinations of ids."""
    return math.prod(size for _, size, _, _ in group)


def _width(group: Group) -> int:
    return sum(width for _, _, _, width in group)
