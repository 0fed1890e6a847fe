"""What is wrong with staged rows: bad ones put aside, inconsistent ones counted, empty parts refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from funnelcast.data.log.engine import Engine
from funnelcast.data.log.sources import ROW
from funnelcast.data.log.staging import FAULT, INCONSISTENT, PART, TEXT, Staged
from funnelcast.data.log.text_types import as_whole, holds_text, is_no_integer, text_tables
from funnelcast.data.quarantine import Quarantine
from funnelcast.errors import DataError
from funnelcast.schema.dataset import Schema
from funnelcast.schema.funnel import Funnel


def usable(rows: Any, schema: Schema, part: str) -> Any:
    """The staged rows that enter a part of the table."""
    rows = rows.filter(rows[FAULT].isnull(), rows[PART] == part)
    return rows.filter(~rows[INCONSISTENT]) if schema.funnel.on_broken == "drop" else rows


def usable_rows(batch: pa.RecordBatch, schema: Schema, part: str) -> NDArray[np.bool_]:
    """The same of a batch: a mask (N,)."""
    rows = pc.and_(batch.column(FAULT).is_null(), pc.equal(batch.column(PART), part))
    if schema.funnel.on_broken == "drop":
        rows = pc.and_not(rows, batch.column(INCONSISTENT))
    mask: NDArray[np.bool_] = rows.to_numpy(zero_copy_only=False)
    return mask


def put_aside(engine: Engine, staged: list[Staged], quarantine: Quarantine) -> dict[str, int]:
    """List bad rows with file, line and reason, and count them. Raises QuarantineError for too many."""
    rows = sum(each.source.rows for each in staged)
    for each in staged:
        for rejected in each.source.rejected:
            quarantine.add(each.source.path, rejected.line, rejected.reason, rejected.text)
        for row in _bad_rows(engine, each):
            file, line = each.source.locate(row.pop(ROW))
            reason, texts = row.pop(FAULT), {name: row.pop(TEXT + name, None) or row[name] for name in each.columns}
            quarantine.add(file, line, reason, ", ".join(f"{name}={text}" for name, text in texts.items()))
    quarantine.check(rows)
    reasons = {f"quarantined: {reason}": count for reason, count in quarantine.reasons.most_common()}
    return {"rows read": rows, "quarantined": quarantine.count, **reasons}


def _bad_rows(engine: Engine, staged: Staged) -> Iterator[dict[str, Any]]:
    if int(engine.fetch(staged.table[FAULT].count()).as_py()):
        texts = [name for name in staged.table.columns if name.startswith(TEXT)]
        for batch in staged.batches([*staged.columns, *texts, ROW, FAULT]):
            yield from batch.filter(batch.column(FAULT).is_valid()).to_pylist()


def count_inconsistent(engine: Engine, staged: list[Staged], funnel: Funnel) -> int:
    """Good rows whose labels contradict the funnel. Raises DataError where the funnel allows none."""
    total = 0
    for each in staged:
        inconsistent = each.table.filter(each.table[FAULT].isnull(), each.table[INCONSISTENT])
        count = int(engine.fetch(inconsistent.count()).as_py())
        if count and funnel.on_broken == "error":
            file, line = each.source.locate(int(engine.fetch(inconsistent[ROW].min()).as_py()))
            raise DataError(
                f"{count} rows of {each.source.path} contradict the funnel, the first is row {line} of {file.name}; "
                "mend the data, or set on_broken to 'drop' or 'imply'"
            )
        total += count
    return total


def odd_texts(engine: Engine, staged: list[Staged], schema: Schema) -> dict[str, int]:
    """Texts that keep a column of ids in a CSV, or of lists that were texts, from being integers, as most of it is,
    counted by what tells of them."""
    columns = sorted({schema.column(name) for name, feature in schema.features.items() if feature.kind != "numeric"})
    counts = {}
    for each in staged:
        here = [column for column in columns if holds_text(each.source, column) and _is_text(each.table[column].type())]
        for table, texts in text_tables(each.source, here):
            for column in texts:
                found = _odd(engine, table, column)
                if 0 < (found["odd"] or 0) < found["whole"]:
                    file, line = each.source.locate(found["row"])
                    reason = f"{column} is text, not integers, for {found['text']!r} in line {line} of {file.name}"
                    counts[reason] = found["odd"]
    return counts


def _is_text(kind: Any) -> bool:
    return bool(kind.value_type.is_string() if kind.is_array() else kind.is_string())


def _odd(engine: Engine, table: Any, column: str) -> dict[str, Any]:
    text, row = table[column], table[ROW]
    odd = is_no_integer(text)
    queries = {"odd": odd.sum(), "whole": as_whole(text).count(), "row": row.min(where=odd)}
    return engine.row(queries | {"text": text.argmin(row, where=odd)}, table)


def check_parts(engine: Engine, staged: list[Staged], schema: Schema) -> None:
    """Raises DataError where a requested part would have no rows."""
    for each in staged:
        for part in each.parts:
            if int(engine.fetch(usable(each.table, schema, part).count()).as_py()):
                continue
            raise DataError(
                f"{each.source.path} leaves no {part} rows ({each.source.rows} rows read); "
                + (_split_fix(schema) if len(each.parts) > 1 else "give more")
            )


def _split_fix(schema: Schema) -> str:
    ties = "rows of one time stay together in the later part; " if schema.split.by == "time" else ""
    return f"{ties}change the shares of [split], or give a file for the part"
