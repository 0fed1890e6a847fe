"""A sample of requests in Parquet files: raw inputs, with the probabilities that were answered.

FOLDER/20261204T221552-1a2b3c4d-000001.parquet: when its process started, that process, and the number of the file.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from tempfile import TemporaryFile
from typing import Final, NamedTuple
from uuid import uuid4

import pyarrow as pa

from funnelcast.data.files import clear_stale, new_file
from funnelcast.data.parquet import parquet_writer
from funnelcast.errors import FunnelcastError
from funnelcast.server.logged_columns import Answered, LoggedColumns
from funnelcast.server.logs import log
from funnelcast.server.settings import LogRows

ROWS: Final = 65_536
"""Of a file, after which no request is added to it."""
BYTES: Final = 64 << 20
"""Of requests that are not written yet; further ones are dropped."""


class _Kept(NamedTuple):
    answered: Answered
    name: str
    seconds: float
    size: int
    """Bytes that its rows may take."""


class RequestLog:
    """The sample of one scoring process, written by a thread of its own."""

    def __init__(self, settings: LogRows, columns: LoggedColumns) -> None:
        """Raises FunnelcastError where the folder cannot be written into."""
        require_writable(settings.folder)
        self._settings, self._columns = settings, columns
        self._process = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid4().hex[:8]}"
        self._random, self._lock = Random(), threading.Lock()
        self._counts = {"requests": 0, "rows": 0, "dropped": 0, "failed": 0}
        self._offered = self._held = self._files = 0
        self._queue: queue.SimpleQueue[_Kept | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def offer(self, answered: Answered, size: int) -> None:
        """Keep a request if it is of the sample and there is memory for it. `size`: bytes of its body."""
        rows = answered.own.num_rows
        if not rows or self._random.random() >= self._settings.share:
            return
        shared = 0 if answered.shared is None else answered.shared.nbytes
        size = max(size, answered.own.nbytes + rows * shared)
        self._offered += 1
        with self._lock:
            has_memory = self._held + size <= BYTES
            self._held += size * has_memory
            self._counts["dropped"] += not has_memory
        if has_memory:
            name = f"{self._process.rpartition('-')[2]}-{self._offered}"
            self._queue.put(_Kept(answered, name, time.time(), size))

    def counts(self) -> dict[str, int]:
        """Requests and rows that were written, requests that were dropped, and that failed to be written."""
        with self._lock:
            return dict(self._counts)

    def close(self) -> None:
        """Write what is left."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while kept := self._collected():
            self._write(kept)
            with self._lock:
                self._held -= sum(each.size for each in kept)

    def _collected(self) -> list[_Kept]:
        """Requests that are written at once; none at the end."""
        kept, rows, size, due = list[_Kept](), 0, 0, math.inf
        while rows < ROWS and size < BYTES // 2:
            try:
                one = self._queue.get(timeout=None if not kept else max(0.0, due - time.monotonic()))
            except queue.Empty:
                break
            if one is None:
                self._queue.put(None)  # for the call after this one
                break
            due = due if kept else time.monotonic() + self._settings.seconds
            kept.append(one)
            rows, size = rows + one.answered.own.num_rows, size + one.size
        return kept

    def _write(self, kept: list[_Kept]) -> None:
        """A file of each type of rows. What fails costs these requests' places in the log, and no answer."""
        files: dict[str, list[pa.RecordBatch]] = {}
        for each in kept:
            try:
                batch = self._columns.batch(each.answered, each.name, each.seconds)
                files.setdefault(str(batch.schema), []).append(batch)
            except Exception as error:
                self._failed(1, error)
        for batches in files.values():
            try:
                self._write_file(pa.Table.from_batches(batches))
            except Exception as error:
                self._failed(len(batches), error)
            else:
                self._count(requests=len(batches), rows=sum(batch.num_rows for batch in batches))

    def _write_file(self, table: pa.Table) -> None:
        """One row group, so that a request is whole in it."""
        self._files += 1
        path = self._settings.folder / f"{self._process}-{self._files:06}.parquet"
        with new_file(path) as partial, parquet_writer(partial, table) as writer:
            writer.write_table(table, row_group_size=len(table))

    def _failed(self, requests: int, error: Exception) -> None:
        self._count(failed=requests)
        log("rows not logged", requests=requests, error=f"{type(error).__name__}: {error}")

    def _count(self, **more: int) -> None:
        with self._lock:
            self._counts = {name: count + more.get(name, 0) for name, count in self._counts.items()}


def require_writable(folder: Path) -> None:
    """Make the folder where it is not there, and remove what killed processes left unfinished in it. Raises
    FunnelcastError where nothing can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for partial in folder.glob(".*.parquet.partial-*"):
            clear_stale(folder / partial.name[1:].partition(".partial-")[0])
        with TemporaryFile(dir=folder) as probe:
            probe.write(bytes(1))
    except OSError as error:
        raise FunnelcastError(
            f"rows cannot be logged in {folder} ({error.strerror}); give --log-rows a folder that can be written into"
        ) from None
