"""Shares of unknown ids in whole columns, and what share a random split would give."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from funnelcast.data.columns import Ragged

CHUNK = 1_000_000
Ids = NDArray[np.int32]


@dataclass(frozen=True)
class Expected:
    """Shares of unknown ids in the training rows, and in others of their law."""

    train: float
    elsewhere: float
    run: float
    """Mean rows of a run of neighbouring rows with one id: as many rows are one draw."""

    def error(self, rows: int) -> float:
        """Standard error of the share in so many rows of that law, at least that of one draw."""
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
