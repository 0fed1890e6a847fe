"""Drift of features between train and another part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from funnelcast.data.encoder import Encoder
from funnelcast.data.numeric import Bins, Standard
from funnelcast.data_checks import words
from funnelcast.data_checks.drift import LARGE, LEAST_ROWS, Drift, frequent, measure_drift
from funnelcast.data_checks.finding import DRIFT, Finding
from funnelcast.data_checks.reading import Codes, Column, Numbers, bins, edges

BINS = 20


class _Compared(NamedTuple):
    """One side of a feature, in codes that both parts share."""

    train: Codes
    other: Codes
    values: Codes
    """(K,) that are compared one by one."""
    name: Callable[[int], str]
    """What a code stands for."""
    middles: tuple[float, float] | None = None
    """The medians, of numbers."""


def feature_drift(train: Column, other: Column, encoder: Encoder) -> Finding | None:
    """Of the values of a feature; of lists, of their lengths and their last ids."""
    for each in _compared(train, other, encoder):
        found = measure_drift(each.train, train.sample, each.other, other.sample, each.values)
        if found is not None and found.is_sure and found.index >= LARGE:
            return _finding(train.name, other.sample.part, found, each)
    return None


def _compared(train: Column, other: Column, encoder: Encoder) -> Iterator[_Compared]:
    if train.lists is not None and other.lists is not None:
        yield _ids(_last(train), _last(other), encoder, train.name, "a last id of ")
        yield _numbers(train, other, encoder)
    elif train.numbers is not None and not isinstance(encoder.numbers[train.name], Bins):
        yield _numbers(train, other, encoder)
    else:
        yield _ids(train.raw.astype(np.int64), other.raw.astype(np.int64), encoder, train.name)


def _ids(train: Codes, other: Codes, encoder: Encoder, feature: str, what: str = "") -> _Compared:
    """Unknown ids stand with the rare ones: parts of one law differ in them."""
    values = frequent(train, other)
    if not isinstance(encoder.numbers.get(feature), Bins):
        values = values[values > 0]
    return _Compared(train, other, values, lambda code: what + words.value(encoder, feature, code))


def _last(column: Column) -> Codes:
    """(n,) the last id of each list, -1 of none."""
    assert column.lists is not None
    has, ids = column.lists.offsets[1:] > column.lists.offsets[:-1], np.append(column.lists.ids, -1)
    return np.where(has, ids[column.lists.offsets[1:] - 1], -1).astype(np.int64)


def _numbers(train: Column, other: Column, encoder: Encoder) -> _Compared:
    assert train.numbers is not None and other.numbers is not None
    both = np.concatenate([train.numbers, other.numbers])
    parting = edges(both, min(BINS, max(2, len(both) // (2 * LEAST_ROWS))))
    codes = bins(train.numbers, parting), bins(other.numbers, parting)
    scale = encoder.numbers.get(train.name)
    std, mean = (scale.std, scale.mean) if isinstance(scale, Standard) else (1.0, 0.0)
    middles = (float(np.median(each.numbers)) * std + mean for each in (train, other) if each.numbers is not None)
    what = "a length of " if train.lists is not None else ""
    named = partial(_range, parting * std + mean)
    return _Compared(*codes, frequent(*codes), lambda code: what + named(code), (next(middles), next(middles)))


def _range(edges: Numbers, code: int) -> str:
    """What a code of `bins` stands for."""
    place = code // 2
    if code % 2:
        return f"{edges[place]:.6g}"
    if place == 0:
        return f"below {edges[0]:.6g}"
    return f"above {edges[-1]:.6g}" if place == len(edges) else f"{edges[place - 1]:.6g} to {edges[place]:.6g}"


def _finding(feature: str, part: str, found: Drift, compared: _Compared) -> Finding:
    return Finding(
        DRIFT,
        feature,
        "warning",
        f"its values have another distribution in {part} (population stability index {found.index:.2f}, where over "
        f"{LARGE} is large): {_difference(part, found, compared)}",
        "look whether the column was made alike for both; if the world changed, train on newer rows, and trust figures "
        "of the newest alone",
    )


def _difference(part: str, found: Drift, compared: _Compared) -> str:
    if compared.middles is not None and compared.middles[0] != compared.middles[1]:
        return "the median is {:.6g} in train and {:.6g} in ".format(*compared.middles) + part
    moves = np.abs(found.shares[0] - found.shares[1])
    moved = int(np.argmax(moves[:-1] if len(compared.values) else moves))
    name = compared.name(int(compared.values[moved])) if len(compared.values) else "a rare or unknown value"
    before, after = (words.percent(float(share)) for share in found.shares[:, moved])
    return f"{name or 'no value'} in {before} of the training rows and in {after} of the {part} rows"
