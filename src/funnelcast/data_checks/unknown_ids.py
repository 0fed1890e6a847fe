"""Ids of test or dev that no training row has, and what share of them a random split would give."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from funnelcast.data.columns import Columns, Ragged
from funnelcast.data.table import Table
from funnelcast.data_checks.finding import IDS, Finding
from funnelcast.data_checks.formatting import percent
from funnelcast.schema.dataset import Schema
from funnelcast.schema.features import IdFeature

GRAVE, WORTH_SAYING = 0.25, 0.10
"""Unknown ids beyond one distribution of both parts: share of the rows that is a warning, and a note."""
GRAVE_LISTS = 0.5
"""The same of ids in lists. Lists repeat their neighbours', so that less is known of what to expect."""
MOST = 0.8
"""Share of the rows above which it is more than new ids that come up."""
STANDARD_ERRORS = 4.0
"""A difference of more standard errors than these is a finding."""


@dataclass(frozen=True)
class _Ids:
    """Shares of unknown ids of one feature, in train and in another part."""

    feature: str
    train: float
    expected: float
    part: str
    rows: int
    share: float

    @property
    def excess(self) -> float:
        return self.share - self.expected


def new_ids(table: Table, train: Columns, parts: dict[str, Columns]) -> Iterator[Finding]:
    """A finding per feature that has too many unknown ids in a part; of two such parts, of the first."""
    schema, fields = table.schema, [name for name, _ in table.encoder.inputs.fields]
    for name, feature in schema.features.items():
        if not isinstance(feature, IdFeature):
            continue
        if name in fields:
            found = _of_field(name, fields.index(name), feature.min_count, train, parts)
        else:
            found = _of_lists(name, train, parts)
        if found is not None:
            yield _finding(found, schema)


def _of_field(name: str, place: int, min_count: int, train: Columns, parts: dict[str, Columns]) -> _Ids | None:
    expected = expected_unknown(train.ids[:, place], min_count)
    for part, rows in parts.items():
        share = unknown_share(rows.ids[:, place])
        chance = STANDARD_ERRORS * (expected.error(len(rows)) + expected.error(len(train)))
        if share - expected.elsewhere >= max(WORTH_SAYING, chance):
            return _Ids(name, expected.train, expected.elsewhere, part, len(rows), share)
    return None


def _of_lists(name: str, train: Columns, parts: dict[str, Columns]) -> _Ids | None:
    own = unknown_in_lists(train.ragged[name])
    for part, rows in parts.items():
        share = unknown_in_lists(rows.ragged[name])
        if share - own >= GRAVE_LISTS + STANDARD_ERRORS * (0.25 / len(rows)) ** 0.5:
            return _Ids(name, own, own, part, len(rows), share)
    return None


def _finding(found: _Ids, schema: Schema) -> Finding:
    lists = found.feature in schema.lists
    what = f"ids in the lists of the {found.rows:,} {found.part} rows" if lists else f"{found.rows:,} {found.part} rows"
    expected = "" if lists else f"; a random split of such rows would give {percent(found.expected)}"
    return Finding(
        IDS,
        found.feature,
        "warning" if found.excess >= GRAVE else "note",
        f"{percent(found.share)} of the {what} {'are' if lists else 'have an id that is'} unknown to train "
        f"(new, too rare, or missing), and {percent(found.train)} of the training rows{expected}",
        _advice(found, schema),
    )


def _advice(found: _Ids, schema: Schema) -> str:
    split = schema.split
    if split.by == "group" and split.column == schema.column(found.feature):
        return (
            f"the split puts all rows of one {split.column} into one part, so none of its ids is known in "
            f"{found.part}: take {found.feature} out of [features], or split by another column"
        )
    if found.share >= MOST and found.excess >= GRAVE:
        return "most are unknown: look whether the files write the ids alike, and whether they were split by this key"
    apart = f"`funnelcast evaluate --by {found.feature}` tells their rows apart, and "
    return (
        "normal where new ids come up with time; figures are of them too: "
        f"{'' if found.feature in schema.lists else apart}docs/how-to/adapt.md says how they get rows of their own"
    )


CHUNK = 1_000_000
Ids = NDArray[np.int32]


@dataclass(frozen=True)
class Expected:
    """Shares of unknown ids in the training rows, and in others of their distribution."""

    train: float
    elsewhere: float
    run: float
    """Mean rows of a run of neighbouring rows with one id: as many rows are one draw."""

    def error(self, rows: int) -> float:
        """Standard error of the share in so many rows of that distribution, at least that of one draw."""
        draws = max(1.0, rows / self.run)
        share = min(max(self.elsewhere, 1 / (draws + 1)), draws / (draws + 1))
        return float(np.sqrt(share * (1 - share) / draws))


def unknown_share(ids: Ids) -> float:
    """Of one id per row (N,), N > 0."""
    return sum(int(np.count_nonzero(chunk == 0)) for chunk in _chunks(ids)) / len(ids)


def expected_unknown(ids: Ids, min_count: int) -> Expected:
    """What training rows (N,) say of the share of unknown ids in other rows.

    Good and Turing: a new row meets an unknown id as often as a training row has an id that would be unknown without
    it. Rows of one user stand together in many logs and come to a part together, so it is a run of rows with one id
    that is left out.
    """
    counts = np.zeros(1, np.int64)
    for chunk in _chunks(ids):
        more = np.bincount(chunk, minlength=len(counts))
        more[: len(counts)] += counts
        counts = more
    found = runs = 0
    for chunk in _chunks(ids):
        starts = np.flatnonzero(np.concatenate([np.ones(1, bool), chunk[1:] != chunk[:-1]]))
        lengths, of_run = np.diff(np.append(starts, len(chunk))), chunk[starts]
        found += int(lengths[(of_run > 0) & (counts[of_run] - lengths < min_count)].sum())
        runs += len(starts)
    unknown = int(counts[0])
    return Expected(unknown / len(ids), (unknown + found) / len(ids), len(ids) / runs)


def unknown_in_lists(lists: Ragged) -> float:
    """Share of unknown ids among those of all rows; NaN without any."""
    uses = None if lists.index is None else np.bincount(lists.index, minlength=len(lists.offsets) - 1)
    found = total = 0
    for start in range(0, len(lists.ids), CHUNK):
        zero = lists.ids[start : start + CHUNK] == 0
        if uses is None:
            found, total = found + int(np.count_nonzero(zero)), total + len(zero)
            continue
        of_list = np.searchsorted(lists.offsets, np.arange(start, start + len(zero)), side="right") - 1
        found, total = found + int(uses[of_list][zero].sum()), total + int(uses[of_list].sum())
    return found / total if total else float("nan")


def _chunks(ids: Ids) -> Iterator[Ids]:
    for start in range(0, len(ids), CHUNK):
        yield np.ascontiguousarray(ids[start : start + CHUNK])
