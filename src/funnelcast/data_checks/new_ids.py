"""Ids of test or dev that no training row has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from funnelcast.data.columns import Columns
from funnelcast.data.table import Table
from funnelcast.data_checks import words
from funnelcast.data_checks.finding import IDS, Finding
from funnelcast.data_checks.unknown import expected_unknown, unknown_in_lists, unknown_share
from funnelcast.schema.dataset import Schema
from funnelcast.schema.features import IdFeature

GRAVE, WORTH_SAYING = 0.25, 0.10
"""Unknown ids beyond what one law for both parts would give: share of the rows that is a warning, and a note."""
GRAVE_LISTS = 0.5
"""The same of ids in lists. Lists repeat their neighbours', so that less is known of what to expect."""
MOST = 0.8
"""Share of the rows above which it is more than new ids that come up."""
SURE = 4.0
"""Standard errors."""


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
        sure = SURE * (expected.error(len(rows)) + expected.error(len(train)))
        if share - expected.elsewhere >= max(WORTH_SAYING, sure):
            return _Ids(name, expected.train, expected.elsewhere, part, len(rows), share)
    return None


def _of_lists(name: str, train: Columns, parts: dict[str, Columns]) -> _Ids | None:
    own = unknown_in_lists(train.ragged[name])
    for part, rows in parts.items():
        share = unknown_in_lists(rows.ragged[name])
        if share - own >= GRAVE_LISTS + SURE * (0.25 / len(rows)) ** 0.5:
            return _Ids(name, own, own, part, len(rows), share)
    return None


def _finding(found: _Ids, schema: Schema) -> Finding:
    lists = found.feature in schema.lists
    what = f"ids in the lists of the {found.rows:,} {found.part} rows" if lists else f"{found.rows:,} {found.part} rows"
    expected = "" if lists else f"; a random split of such rows would give {words.percent(found.expected)}"
    return Finding(
        IDS,
        found.feature,
        "warning" if found.excess >= GRAVE else "note",
        f"{words.percent(found.share)} of the {what} {'are' if lists else 'have an id that is'} unknown to train "
        f"(new, too rare, or missing), and {words.percent(found.train)} of the training rows{expected}",
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
        f"{'' if found.feature in schema.lists else apart}docs/guide/adapting.md says how they get rows of their own"
    )
