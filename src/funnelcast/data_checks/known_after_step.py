"""A feature that is known only after a step: it is empty in the rows that did not reach the step, and not in others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from funnelcast.data.encoder import Encoder
from funnelcast.data_checks.column import Column
from funnelcast.data_checks.finding import AFTER, Finding
from funnelcast.data_checks.formatting import percent, raw_value
from funnelcast.data_checks.label_copies import FEWEST
from funnelcast.evaluation.funnel import sample_space
from funnelcast.evaluation.standard_errors import wilson
from funnelcast.schema.funnel import Funnel, Output

NEARLY_CERTAIN = 0.9
"""Of the rows where the feature is known, at least this share reached the step."""
TIMES = 100
"""It is so many times as often known where the step was reached as where it was not."""
NEARLY_ALWAYS = 0.9
"""Known in this share of the rows that reached the step, any value that the others have is taken for empty; below, one
that says so. In Census a family status tells who never married as surely: 'Not in universe' is no empty value, and
64 % have another."""
FEWEST_KNOWN = 20
EMPTY = frozenset({"", "0", "-1", "-", "none", "null", "nan", "na", "n/a", "unknown", "missing", "false", "no"})
"""Ids that say that there is nothing, beside missing ones, as texts in lower case."""


class _Known(NamedTuple):
    """How often a feature is known, in rows that reached a step and in others."""

    output: Output
    default: int
    """The code that it has elsewhere."""
    reached: int
    known: int
    others: int
    known_others: int

    @property
    def share(self) -> float:
        return self.known / self.reached

    @property
    def share_others(self) -> float:
        return self.known_others / self.others

    @property
    def tells(self) -> bool:
        """Whether the step can be told from it, beyond chance."""
        if self.known < FEWEST_KNOWN or self.share < TIMES * self.share_others:
            return False
        low, _ = wilson(self.known / (self.known + self.known_others), self.known + self.known_others)
        _, most = wilson(self.known_others / self.others, self.others)
        return low >= NEARLY_CERTAIN and self.share >= TIMES / 5 * most


def known_after(column: Column, encoder: Encoder) -> Finding | None:
    """Of several steps, the one that the feature goes with most closely."""
    candidates = [
        known
        for known in _known(column, encoder.schema.funnel)
        if known.tells and (known.share >= NEARLY_ALWAYS or _is_empty(column, encoder, known.default))
    ]
    return _finding(column, encoder, max(candidates, key=lambda known: known.share)) if candidates else None


def _known(column: Column, funnel: Funnel) -> Iterator[_Known]:
    for output in funnel.outputs:
        space = sample_space(output, column.sample.labels)
        values, reached = column.inverse[space], column.sample.labels[space, output.step] == 1
        if min(np.count_nonzero(reached), np.count_nonzero(~reached)) < FEWEST:
            continue
        default = int(np.argmax(np.bincount(values[~reached])))
        known = values != default
        yield _Known(
            output,
            default,
            reached=int(reached.sum()),
            known=int((known & reached).sum()),
            others=int((~reached).sum()),
            known_others=int((known & ~reached).sum()),
        )


def _is_empty(column: Column, encoder: Encoder, code: int) -> bool:
    """Of a number, whatever value so many rows have."""
    if column.lists is not None:
        return _length(column, code) == 0
    return column.numbers is not None or raw_value(encoder, column.name, column.values[code]).lower() in EMPTY


def _length(column: Column, code: int) -> int:
    assert column.numbers is not None
    return int(column.numbers[np.argmax(column.inverse == code)])


def _is_known(column: Column, encoder: Encoder, default: int) -> str:
    """What a feature is where it has another value than its default."""
    if column.lists is not None:
        return "another than its usual list" if _length(column, default) else "a list that is not empty"
    value = raw_value(encoder, column.name, column.values[default])
    return f"other than {value!r}" if value else "known"


def _finding(column: Column, encoder: Encoder, found: _Known) -> Finding:
    funnel = encoder.schema.funnel
    step = funnel.names[found.output.step]
    is_known = _is_known(column, encoder, found.default)
    space = "" if found.output.given is None else f" that reached {funnel.names[found.output.given]}"
    return Finding(
        AFTER,
        column.name,
        "error" if found.share >= NEARLY_ALWAYS else "warning",
        f"it is {is_known} in {percent(found.share)} of the {found.reached:,} training rows that "
        f"reached {step}, and in {percent(found.share_others)} of the {found.others:,} others{space}",
        f"if it comes to be known with {step} or later, take it out of [features]; if it is known before, keep it",
    )
