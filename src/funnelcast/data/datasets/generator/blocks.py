"""A generated log, block by block: any block can be drawn alone, and memory holds one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from funnelcast.data.datasets.generator import process
from funnelcast.data.datasets.generator.config import PARTS, GeneratorConfig
from funnelcast.data.datasets.generator.counter_random import Keys, keys_of
from funnelcast.data.datasets.generator.lists import (
    HISTORY,
    LONGEST,
    MOST_ACTIVE,
    MOST_FEATURES,
    Memory,
    draw_lists,
    list_sizes,
)
from funnelcast.data.datasets.generator.process import Rows
from funnelcast.data.datasets.generator.text import COMMON_FIELDS, Lines
from funnelcast.data.datasets.generator.world import build_world

LISTS_PER_BLOCK = 1_000
PILOT_ROWS = 10
"""Rows of a list of the pilot sample: many short lists fix the intercepts best, as users differ more than rows."""


class Block(NamedTuple):
    """Some lists of a part: N impressions, and the lines of both files."""

    keys: Keys  # of the lists
    list_of: NDArray[np.int32]  # (N,): place in keys
    rows: Rows
    skeleton: Lines
    common: Lines
    truth: NDArray[np.float64]  # (N, 2): p(click), p(conversion given click)
    labels: NDArray[np.uint8]  # (N, 2)


class Generator:
    """Draws the blocks of a log; each depends on the settings, its part and its place alone."""

    def __init__(self, config: GeneratorConfig) -> None:
        self.config = config
        self.world = build_world(config.rows_of("train"), config.seed, config.campaign_std)
        self._memory = _empty_memory(len(self.world.entity_code))
        self._keys = dict(zip((*PARTS, "pilot"), _part_keys(config.seed), strict=True))
        self.intercepts = self._calibrate()

    def blocks(self, part: str) -> Iterator[Block]:
        """The blocks of a part, in order."""
        left, first = self.config.rows_of(part), 0
        while left:
            block = self.block(part, first, left)
            yield block
            left, first = left - len(block.labels), first + LISTS_PER_BLOCK

    def block(self, part: str, first: int, most: int) -> Block:
        """The lists from `first` on, cut at so many rows."""
        keys = keys_of(self._keys[part], first, LISTS_PER_BLOCK)
        sizes = _at_most(list_sizes(keys), most)
        rows, skeleton, common = self._draw(keys[: len(sizes)], sizes, new=part == "test")
        truth = process.probabilities(process.logits(self.world, rows), self.intercepts)
        lists = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
        return Block(keys[: len(sizes)], lists, rows, skeleton, common, truth, self._labels(rows, truth))

    def _draw(self, keys: Keys, sizes: NDArray[np.int64], *, new: bool) -> tuple[Rows, Lines, Lines]:
        count, history = int(sizes.sum()), int(MOST_ACTIVE * sum(HISTORY))
        user, item, category, scenario, intention = np.empty((5, count), np.int64)
        rows = Rows(user, item, category, scenario, intention, np.zeros((count, 4), np.uint8), np.empty((count, 3)))
        skeleton = _empty_lines(count, count * MOST_FEATURES)
        common = _empty_lines(len(keys), len(keys) * (COMMON_FIELDS + history) + 4 * count)
        draw_lists(self.world, keys, np.concatenate([[0], np.cumsum(sizes)]), new, self._memory, rows, skeleton, common)
        return rows, skeleton, common

    def _labels(self, rows: Rows, truth: NDArray[np.float64]) -> NDArray[np.uint8]:
        click, conversion = (rows.chance[:, :2] < truth).T
        inconsistent = rows.chance[:, 2] < self.config.broken_rate
        return np.stack([click, np.where(click, conversion, inconsistent)], axis=1).astype(np.uint8)

    def _calibrate(self) -> NDArray[np.float64]:
        lists = min(6_000, max(1_000, self.config.rows // PILOT_ROWS))
        rows, *_ = self._draw(keys_of(self._keys["pilot"], 0, lists), np.full(lists, PILOT_ROWS), new=False)
        return process.calibrate(process.logits(self.world, rows), self.config.click_rate, self.config.conversion_rate)


def _empty_memory(entities: int) -> Memory:
    most = int(MOST_ACTIVE * max(HISTORY)) + LONGEST
    return Memory(np.zeros(entities, np.uint64), np.empty((4, most), np.int64), np.zeros(4, np.int64))


def _empty_lines(lines: int, features: int) -> Lines:
    field, times = np.empty((2, features), np.uint8)
    return Lines(np.zeros(lines + 1, np.int64), field, np.empty(features, np.int32), times)


def _part_keys(seed: int) -> Keys:
    return np.random.SeedSequence([seed, 1]).generate_state(3, np.uint64).astype(np.uint64)


def _at_most(sizes: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    """The first lists that have so many rows together, the last one cut to fit; all if they have fewer."""
    ends = np.cumsum(sizes)
    kept = np.diff(np.minimum(ends, rows), prepend=0)
    return kept[kept > 0]
