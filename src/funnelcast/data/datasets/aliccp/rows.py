"""The raw Ali-CCP files as tokenized lines, block by block; bad lines go to quarantine with their reason."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from funnelcast.compiled import compiled
from funnelcast.data.datasets.aliccp.byte_words import find_line_ends
from funnelcast.data.datasets.aliccp.faults import ENCODING, FINE, REASONS, UNKNOWN
from funnelcast.data.datasets.aliccp.fields import Fields
from funnelcast.data.datasets.aliccp.files import BLOCK_BYTES, COMMON, SKELETON, Block, Source
from funnelcast.data.datasets.aliccp.ids import IdTable
from funnelcast.data.datasets.aliccp.numbers import Bytes
from funnelcast.data.datasets.aliccp.tokens import Int64s, Tokens, tokenize
from funnelcast.data.in_order import in_order
from funnelcast.data.progress import Progress, silent
from funnelcast.data.quarantine import Quarantine
from funnelcast.runtime.threads import cores

MOST_BLOCKS = 8
"""At a time, however many cores there are: they are what memory goes into."""
SHORT_LINE = 64
"""Bytes of a line, for so many of which there is room at first."""


def at_once() -> int:
    """Blocks that are worked on at a time, each by a thread."""
    return min(cores(), MOST_BLOCKS)


@dataclass(frozen=True)
class Lines:
    """The n tokenized lines of a block; `good` tells which of them hold."""

    data: Bytes
    starts: Int64s  # (n,)
    ends: Int64s  # (n,)
    tokens: Tokens
    indices: NDArray[np.int32]  # (n,) row of the common features, from 0; skeleton only
    first: int = 1  # number of the first line in its file

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def good(self) -> NDArray[np.bool_]:
        """(n,), which lines have no fault."""
        return np.equal(self.tokens.faults, FINE)

    def text(self, line: int) -> bytes:
        return self.data[self.starts[line] : self.ends[line]].tobytes()

    def sample_ids(self, rows: Int64s) -> pa.Array:
        """The strings of `rows`, copied by a kernel and handed to Arrow as they lie."""
        starts, ends = self.starts[rows], self.tokens.sample_ends[rows]
        offsets = np.zeros(len(rows) + 1, np.int32)
        np.cumsum(ends - starts, out=offsets[1:])
        texts = np.empty(offsets[-1], np.uint8)
        _gather(self.data, starts, offsets, texts)
        return pa.StringArray.from_buffers(len(rows), pa.py_buffer(offsets), pa.py_buffer(texts))


@dataclass
class LineReader:
    """Reads raw files, reports the bad lines, and stops when they are too many."""

    fields: Fields
    quarantine: Quarantine
    progress: Progress = silent
    block_bytes: int = BLOCK_BYTES
    faults: Counter[str] = field(default_factory=Counter)
    """Bad lines by the kind of their fault."""
    read: int = 0
    """Lines read of all files."""

    def go_through(self, source: Source, *then: Callable[[Any], Any], index: IdTable | None = None) -> None:
        """Hand the `Lines` of all blocks of a file to the first of `then`, and what that makes to the next one; of a
        skeleton file with the `index` of its common features.

        Raises DataError for a file that cannot be read, QuarantineError as soon as the bad lines will be too many.
        """
        stage = "reading common features" if source.kind == COMMON else f"reading {source.part}"
        began, before = time.perf_counter(), self.read

        def looked_over(tokenized: tuple[Block, Lines]) -> Lines:
            block, lines = tokenized
            lines = replace(lines, first=self.read - before + 1)
            self._put_aside(lines, source)
            self.read += len(lines)
            self._check(self.read - before, block)
            rate = (self.read - before) / (time.perf_counter() - began)
            self.progress(stage, block.done, block.total, "bytes", f"{rate:,.0f} rows/s")
            return lines

        tokenized = partial(self._tokenized, skeleton=source.kind == SKELETON, index=index)
        in_order(at_once(), source.blocks(self.block_bytes), tokenized, looked_over, *then)

    def _tokenized(self, block: Block, skeleton: bool, index: IdTable | None) -> tuple[Block, Lines]:
        starts, ends = split_lines(block.data, block.last)
        tokens = tokenize(block.data, starts, ends, self.fields, skeleton=skeleton)
        tokens.faults[_undecodable(block.data, starts, ends)] = ENCODING
        indices = np.zeros(len(starts), np.int32)
        if index is not None:
            indices = index.look_up(tokens.keys, tokens.faults == FINE) - np.int32(1)
            tokens.faults[(indices < 0) & (tokens.faults == FINE)] = UNKNOWN
        return block, Lines(block.data, starts, ends, tokens, indices)

    def _put_aside(self, lines: Lines, source: Source) -> None:
        for line in np.flatnonzero(~lines.good).tolist():
            kind, reason = REASONS[lines.tokens.faults[line]]
            self.faults[kind] += 1
            reason = reason.format(*lines.tokens.details[line])
            text = lines.text(line).decode(errors="replace")
            self.quarantine.add(source.shown, lines.first + line, reason, text)

    def _check(self, rows: int, block: Block) -> None:
        """At the end exactly; before it when the limit would be passed twice over at the pace so far."""
        foreseen = self.read - rows + rows * block.total / max(block.done, 1)
        if block.last or self.quarantine.count > 2 * self.quarantine.limit * foreseen:
            self.quarantine.check(self.read)


def split_lines(data: Bytes, last: bool) -> tuple[Int64s, Int64s]:
    """Starts and ends (n,) of the lines, without line ends; an empty line at the end of the last block is none."""
    ends = np.empty(len(data) // SHORT_LINE + 1, np.int64)
    count = find_line_ends(data, ends)
    if count > len(ends):
        ends = np.empty(count, np.int64)
        find_line_ends(data, ends)
    ends = ends[:count]
    if len(data) and data[-1] != 10:
        ends = np.append(ends, len(data))
    starts = np.concatenate([np.zeros(min(1, len(ends)), np.int64), ends[:-1] + 1])
    ends = ends - ((ends > starts) & (data[ends - 1] == 13))
    full = len(starts) - int(last and len(starts) > 0 and starts[-1] == ends[-1])
    return starts[:full], ends[:full]


def _undecodable(data: Bytes, starts: Int64s, ends: Int64s) -> list[int]:
    """Lines that are not UTF-8; only lines with a byte beyond ASCII are looked at one by one."""
    high = np.flatnonzero(data >= 128) if len(data) and data.max() >= 128 else np.empty(0, np.int64)
    suspects = np.unique(np.searchsorted(starts, high, side="right") - 1)
    return [line for line in suspects.tolist() if not _is_utf8(data[starts[line] : ends[line]].tobytes())]


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


@compiled
def _gather(data: Bytes, starts: Int64s, offsets: NDArray[np.int32], texts: Bytes) -> None:
    for i in range(len(starts)):
        source = starts[i] - offsets[i]
        for at in range(offsets[i], offsets[i + 1]):
            texts[at] = data[source + at]
