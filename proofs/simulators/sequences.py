"""Data whose signal lies in a sequence: in whether it matches another field, or in its order.

Items belong to hidden groups of equal size and have a hidden sign; half of every group has each. A row has a target
item and a history of 4 to 12 items of distinct groups, as many of one sign as of the other, in random order. With m = 1
if the history holds an item of the target's group and -1 if not (half of the rows each), and o the newest item's sign:

    process "match": logit p(click) = s m - 1,  logit p(conversion | click) = s m - 1
    process "order": logit p(click) = s o - 1,  logit p(conversion | click) = s o - 1

so that no item, no sign and no mean of the history tells anything of "order", and "match" is no sum over items either.
Shuffled, histories of "match" go to other rows and those of "order" are reordered: what is left is chance.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from funnelcast.data.columns import Columns, Ragged
from funnelcast.data.encoder import Encoder
from funnelcast.data.files import new_folder
from funnelcast.data.table import Table
from funnelcast.data.table_writer import TableWriter
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.schema.dataset import Schema

GROUPS, GROUP_SIZE = 24, 10
LONGEST = 12
STRENGTH = 1.0
"""s: half the difference of logits."""

Ints = NDArray[np.int64]


class SequenceSimulator:
    """One of the processes, by a seed."""

    def __init__(self, signal: Literal["match", "order"], seed: int = 0, *, shuffled: bool = False) -> None:
        """`shuffled`: the control, in which the signal is destroyed after the labels are drawn."""
        self.signal, self.seed, self.shuffled = signal, seed, shuffled
        items = np.random.default_rng([seed, 3]).permutation(GROUPS * GROUP_SIZE)
        self.items = items.reshape(GROUPS, 2, GROUP_SIZE // 2)  # by group and sign, from 0

    def sample(self, rows: int, part: int = 0) -> tuple[Columns, NDArray[np.float64]]:
        """Rows with labels, and the true probability (N,) of either step given the one before it."""
        rng = np.random.default_rng([self.seed, 4, part])
        target_group, lengths = rng.integers(0, GROUPS, rows), 2 * rng.integers(2, LONGEST // 2 + 1, rows)
        matches = rng.random(rows) < 0.5
        groups = _histories(rng, target_group, matches)
        signs = _balanced(rng, lengths)
        held = np.arange(LONGEST) < lengths[:, None]
        if self.signal == "match":
            value = matches
        else:
            value = signs[np.arange(rows), lengths - 1] == 1
        p = 1 / (1 + np.exp(1 - STRENGTH * (2.0 * value - 1)))
        click = rng.random(rows) < p
        labels = np.stack([click, click & (rng.random(rows) < p)], 1).astype(np.uint8)
        history = self._pick(rng, groups, signs)
        if self.shuffled:
            history, held, lengths = self._shuffle(rng, history, lengths)
        target = self._pick(rng, target_group, rng.integers(0, 2, rows))
        lists = Ragged(np.concatenate([[0], np.cumsum(lengths)]), (history[held] + 1).astype(np.int32))
        ids = (target[:, None] + 1).astype(np.int32)
        return Columns(ids, np.empty((rows, 0), np.float32), {"history": lists}, labels), p

    def _pick(self, rng: np.random.Generator, groups: Ints, signs: Ints) -> Ints:
        picked: Ints = self.items[groups, signs, rng.integers(0, GROUP_SIZE // 2, groups.shape)]
        return picked

    def _shuffle(self, rng: np.random.Generator, history: Ints, lengths: Ints) -> tuple[Ints, NDArray[np.bool_], Ints]:
        if self.signal == "match":
            order = rng.permutation(len(history))
            history, lengths = history[order], lengths[order]
        held = np.arange(LONGEST) < lengths[:, None]
        keys = np.where(held, rng.random(history.shape), 2.0)
        return np.take_along_axis(history, keys.argsort(1), 1), held, lengths

    def write_table(self, folder: Path, train: int = 150_000, dev: int = 25_000, test: int = 100_000) -> Table:
        """A prepared table of independent parts, with the true probabilities as side columns."""
        with new_folder(folder) as partial:
            writer = TableWriter(partial)
            for part, (name, rows) in enumerate({"train": train, "dev": dev, "test": test}.items()):
                columns, p = self.sample(rows, part)
                truth = pa.table({"true_p_click": p, "true_p_conversion_given_click": p})
                writer.part(name).append(columns, truth)
            writer.finish(_encoder(), {})
        return Table.open(folder)


def _histories(rng: np.random.Generator, target: Ints, matches: NDArray[np.bool_]) -> Ints:
    """(N, LONGEST) distinct groups in random order; the target's is among the first four, or nowhere."""
    others = rng.random((len(target), GROUPS))
    others[np.arange(len(target)), target] = 2.0  # behind all
    groups = others.argsort(1)[:, :LONGEST]
    place = rng.integers(0, 4, len(target))
    groups[matches, place[matches]] = target[matches]
    return groups


def _balanced(rng: np.random.Generator, lengths: Ints) -> Ints:
    """(N, LONGEST) of 0 and 1, of each as many among the first `lengths`, in random order."""
    keys = rng.random((len(lengths), LONGEST))
    keys[np.arange(LONGEST) >= lengths[:, None]] = 2.0
    ranks: Ints = keys.argsort(1).argsort(1)
    return ranks % 2


def _encoder() -> Encoder:
    schema = Schema.from_dict(
        {
            "name": "sequence-law",
            "funnel": "click; conversion after click",
            "features": {
                "target": {"vocabulary": "item"},
                "history": {"kind": "sequence", "vocabulary": "item", "max_length": LONGEST},
            },
        }
    )
    return Encoder(schema, {"item": Vocabulary(pa.array(range(GROUPS * GROUP_SIZE)))}, {})
