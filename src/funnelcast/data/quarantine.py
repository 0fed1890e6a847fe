"""Bad rows of raw input: kept in a file with line number and reason, counted, and fatal above a limit."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from funnelcast.errors import QuarantineError

DEFAULT_LIMIT = 1e-4
"""Share of bad rows above which preparing stops."""
_SHOWN = 2000  # characters of a bad row that are kept


class Quarantine:
    """A CSV of bad rows (file, line, reason, text) at `path`; the file appears with the first bad row."""

    def __init__(self, path: Path, limit: float = DEFAULT_LIMIT) -> None:
        self.path = path
        self.limit = limit
        self.reasons: Counter[str] = Counter()
        self._file: TextIO | None = None
        path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def count(self) -> int:
        return self.reasons.total()

    def add(self, file: Path, line: int, reason: str, text: str) -> None:
        """Put one bad row aside; `line` counts from 1."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("w", newline="", encoding="utf-8")
            csv.writer(self._file).writerow(["file", "line", "reason", "text"])
        csv.writer(self._file).writerow([file.name, line, reason, text[:_SHOWN]])
        self.reasons[reason] += 1

    def check(self, rows: int) -> None:
        """Raises QuarantineError when more than `limit` of `rows` rows read are bad."""
        if self.count <= self.limit * rows:
            return
        if self._file is not None:
            self._file.flush()
        kinds = ", ".join(f"{count} × {reason}" for reason, count in self.reasons.most_common(5))
        raise QuarantineError(
            f"{self.count} of {rows} rows are bad, more than the limit of {self.limit:g}: {kinds}. "
            f"They are listed in {self.path}; mend the input, or raise the limit with --max-bad"
        )
