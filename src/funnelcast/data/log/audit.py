"""What is wrong with staged rows: bad ones put aside, broken ones counted, empty parts refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from funnelcast.data.log.engine import Engine
from funnelcast.data.log.sources import ROW
from funnelcast.data.log.staging import BROKEN, FAULT, PART, Staged
from funnelcast.data.quarantine import Quarantine
from funnelcast.errors import DataError
from funnelcast.schema.dataset import Schema
from funnelcast.schema.funnel import Funnel


def usable(rows: Any, schema: Schema, part: str) -> Any:
    """The staged rows that enter a part of the table."""
    rows = rows.filter(rows[FAULT].isnull(), rows[PART] == part)
    return rows.filter(~rows[BROKEN]) if schema.funnel.on_broken == "drop" else rows


def put_aside(engine: Engine, staged: list[Staged], quarantine: Quarantine) -> dict[str, int]:
    """List bad rows with file, line and reason, and count them. Raises QuarantineError for too many."""
    rows = sum(each.source.rows for each in staged)
    for each in staged:
        for rejected in each.source.rejected:
            quarantine.add(each.source.path, rejected.line, rejected.reason, rejected.text)
        for row in _bad_rows(engine, each):
            file, line = each.source.locate(row.pop(ROW))
            quarantine.add(file, line, row.pop(FAULT), ", ".join(f"{name}={value}" for name, value in row.items()))
    quarantine.check(rows)
    reasons = {f"quarantined: {reason}": count for reason, count in quarantine.reasons.most_common()}
    return {"rows read": rows, "quarantined": quarantine.count, **reasons}


def _bad_rows(engine: Engine, staged: Staged) -> Iterator[dict[str, Any]]:
    table = staged.table.filter(staged.table[FAULT].notnull()).drop(PART, BROKEN)
    for batch in engine.stream(table):
        yield from batch.to_pylist()


def count_broken(engine: Engine, staged: list[Staged], funnel: Funnel) -> int:
    """Good rows whose labels contradict the funnel. Raises DataError where the funnel allows none."""
    total = 0
    for each in staged:
        broken = each.table.filter(each.table[FAULT].isnull(), each.table[BROKEN])
        count = int(engine.fetch(broken.count()).as_py())
        if count and funnel.on_broken == "error":
            file, line = each.source.locate(int(engine.fetch(broken[ROW].min()).as_py()))
            raise DataError(
                f"{count} rows of {each.source.path} contradict the funnel, the first is row {line} of {file.name}; "
                "mend the data, or set on_broken to 'drop' or 'imply'"
            )
        total += count
    return total


def check_parts(engine: Engine, staged: list[Staged], schema: Schema) -> None:
    """Raises DataError where a part that was asked for would have no rows."""
    for each in staged:
        for part in each.parts:
            if int(engine.fetch(usable(each.table, schema, part).count()).as_py()):
                continue
            raise DataError(
                f"{each.source.path} leaves no {part} rows ({each.source.rows} rows read); "
                + ("change the shares of [split], or give a file for the part" if len(each.parts) > 1 else "give more")
            )
