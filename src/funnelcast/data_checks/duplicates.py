"""Rows of test or dev that stand in train too, more of them than chance repeats."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from funnelcast.data.progress import Progress
from funnelcast.data.unknown_values import Hashes, mix
from funnelcast.data_checks.comparable_rows import Compared
from funnelcast.data_checks.finding import ROWS, Finding, Severity
from funnelcast.data_checks.formatting import percent
from funnelcast.data_checks.hashing import RowHasher
from funnelcast.evaluation.auc import TOO_FEW

MOST_HASHES = 8_000_000
"""Of larger parts, the rows whose hash falls into one share of all hashes: of equal rows all are kept, or none."""
CHUNK = 131_072
LEAST, GRAVE = 0.005, 0.1
"""Share of copies among the test rows that is reported, and that is an error."""
STANDARD_ERRORS = 6.0
"""A difference of more standard errors than these is a finding."""


@dataclass(frozen=True)
class Hashed:
    """n rows of a part as hashes."""

    features: Hashes
    """(n,)"""
    labels: NDArray[np.int64]
    """(n,) a number per combination of labels."""
    total: int
    """Rows that are compared, of which n are kept."""

    def __len__(self) -> int:
        return len(self.features)

    @cached_property
    def rows(self) -> Hashes:
        """(n,) of features and labels."""
        return mix(self.features ^ self.labels.astype(np.uint64))


def hash_parts(parts: dict[str, Compared], sequences: frozenset[str], progress: Progress) -> dict[str, Hashed]:
    """The rows of every part, by name; `sequences`: the features whose lists have an order."""
    total, done = sum(map(len, parts.values())), 0
    one_in = 1 + max(map(len, parts.values())) // MOST_HASHES
    hashed = {}
    for part, rows in parts.items():
        hasher, chunks = RowHasher(rows.columns, sequences, rows.unknown), []
        for start in range(0, len(rows), CHUNK):
            stop = min(start + CHUNK, len(rows))
            chunks.append(_hash(hasher, rows.kept(start, stop), start, one_in))
            progress("compare rows", done + stop, total, "rows")
        done += len(rows)
        hashed[part] = Hashed(
            np.concatenate([chunk.features for chunk in chunks]),
            np.concatenate([chunk.labels for chunk in chunks]),
            sum(chunk.total for chunk in chunks),
        )
    return hashed


def _hash(hasher: RowHasher, compared: NDArray[np.bool_], start: int, one_in: int) -> Hashed:
    """Of the rows from `start` on that are `compared`."""
    stop = start + len(compared)
    hashes = hasher.features(start, stop)
    kept = compared & ((hashes >> np.uint64(20)) % np.uint64(one_in) == 0)
    return Hashed(hashes[kept], hasher.labels(start, stop)[kept], int(np.count_nonzero(compared)))


def duplicates(hashed: dict[str, Hashed]) -> Iterator[Finding]:
    """Of every other part beside train."""
    train = hashed["train"]
    if not len(train):
        return
    values, counts = np.unique(train.rows, return_counts=True)
    own = float(counts[counts > 1].sum() / max(1, len(train)))
    copied = _copies_within(train, counts)
    for part, other in hashed.items():
        if part == "train" or not len(other):
            continue
        shared = _share_in(other.rows, values)
        both = (own * len(train) + shared * len(other)) / (len(train) + len(other))
        error = math.sqrt(both * (1 - both) * (1 / len(train) + 1 / len(other)))
        excess = (shared - own) / max(1 - own, 1e-9)
        if excess >= LEAST and shared - own > STANDARD_ERRORS * error:
            yield _taken(part, other, shared, own, excess)
        elif copied and shared >= LEAST:
            yield _mean_and_std(part, other, shared, copied)


def _share_in(rows: Hashes, values: Hashes) -> float:
    place = np.minimum(np.searchsorted(values, rows), len(values) - 1)
    return float((values[place] == rows).mean())


def _taken(part: str, other: Hashed, shared: float, own: float, excess: float) -> Finding:
    return Finding(
        ROWS,
        part,
        _severity(excess),
        f"{percent(shared)} of the {other.total:,} {part} rows stand in train with the same features and "
        f"labels; of the training rows, {percent(own)} have such a twin among the others",
        f"look how train and {part} were made: some rows seem to be in both; take them out of one",
    )


def _mean_and_std(part: str, other: Hashed, shared: float, copied: str) -> Finding:
    return Finding(
        ROWS,
        part,
        _severity(shared),
        f"{copied}; so {percent(shared)} of the {other.total:,} {part} rows stand in train too",
        'drop the copies before the log is split, or keep equal rows in one part: [split] by = "group"',
    )


def _severity(share: float) -> Severity:
    return "error" if share >= GRAVE else "warning"


def _copies_within(train: Hashed, counts: NDArray[np.int64]) -> str:
    """What tells that the log itself holds copies; empty where nothing does."""
    found = excess_repeats(counts)
    if found is None or found.excess < LEAST * len(train) or not _labels_agree(train, found.times):
        return ""
    return (
        f"{found.values:,} training rows stand {'twice' if found.times == 2 else f'{found.times} times'} with all "
        f"features and labels, where chance would have at most {found.most:,.0f}"
    )


def _labels_agree(train: Hashed, times: int) -> bool:
    """Whether rows of equal features, `times` of them, agree in their labels as copies do; independent ones would
    differ about as often as rows of any features, unless these tell the labels. True where there are too few to say.
    """
    order = np.argsort(train.features)
    ordered = train.features[order]
    starts = np.flatnonzero(np.concatenate([np.ones(1, bool), ordered[1:] != ordered[:-1]]))
    starts = starts[np.diff(np.append(starts, len(order))) == times]
    _, labels = np.unique(train.labels[order][starts[:, None] + np.arange(times)], return_inverse=True)
    labels = labels.reshape(-1, times)
    differ = int((labels != labels[:, :1]).any(1).sum())
    shares = np.bincount(labels.ravel()) / max(1, labels.size)
    expected = len(labels) * (1 - float((shares**times).sum()))
    return expected < TOO_FEW or differ < expected / 2


HIGHEST = 8
MARGIN = 2.0


class Repeats(NamedTuple):
    """Rows that stand `times` times, more than independent rows would."""

    times: int
    values: int
    most: float
    """How many values independent rows would have so often, at most."""

    @property
    def excess(self) -> float:
        """Rows beyond."""
        return self.times * (self.values - self.most)


def excess_repeats(counts: NDArray[np.int64]) -> Repeats | None:
    """The gravest excess in the counts (V,) of V distinct values; none where there is none beyond chance.

    f_k values that stand k times each, of independent rows, are a Poisson mixture, E f_k = ∫ e^-λ λ^k / k! dν,
    so by Cauchy and Schwarz (E f_k)² <= (k + 1) / k · E f_(k-1) · E f_(k+1). Copies break it: where every row stands
    twice, f_2 is large and f_1 and f_3 are 0.
    """
    f = np.bincount(np.minimum(counts, HIGHEST + 2), minlength=HIGHEST + 3).astype(np.float64)
    found = []
    for k in range(2, HIGHEST + 1):
        most = MARGIN * math.sqrt((k + 1) / k * _at_most(f[k - 1]) * _at_most(f[k + 1]))
        if f[k] - 3 * math.sqrt(f[k]) > most:
            found.append(Repeats(k, int(f[k]), most))
    return max(found, key=lambda each: each.excess, default=None)


def _at_most(count: float) -> float:
    """The mean of a Poisson distribution of which `count` was seen, at most."""
    return count + 3 * math.sqrt(count) + 5
