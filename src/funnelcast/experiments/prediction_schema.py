"""What a prediction file says of itself, in its Parquet schema: which columns are outputs, and which one is the weight.

A file of another tool has no note: every column `p_…` is then an output, and rows count alike.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from funnelcast.errors import InputError

_KEY = b"funnelcast"


def with_note(table: pa.Table, outputs: list[str], weight: str | None) -> pa.Table:
    """The same table, with the note."""
    return table.replace_schema_metadata({_KEY: json.dumps({"outputs": outputs, "weight": weight})})


def outputs_of(table: pa.Table) -> list[str]:
    """The predicted columns that are there. Raises InputError for a damaged note."""
    named = _note(table).get("outputs", [name for name in table.column_names if name.startswith("p_")])
    return [name for name in named if name in table.column_names]


def weight_of(table: pa.Table) -> str | None:
    """The column of the rows' weights. Raises InputError for a damaged note."""
    return _note(table).get("weight")


def _note(table: pa.Table) -> dict[str, Any]:
    try:
        note: dict[str, Any] = json.loads((table.schema.metadata or {}).get(_KEY, b"{}"))
        if isinstance(note.get("outputs", []), list) and isinstance(note.get("weight"), str | None):
            return note
    except (ValueError, AttributeError):
        pass
    raise InputError("the note on its outputs in the file is damaged; predict again")
