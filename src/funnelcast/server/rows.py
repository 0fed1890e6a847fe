"""Plain rows: as JSON, by row or by column, and as an Arrow stream."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from funnelcast.data.arrow import array_of
from funnelcast.errors import InputError
from funnelcast.server.assemble import Rows
from funnelcast.server.infer import Columns, loads
from funnelcast.server.signature import Signature
from funnelcast.serving.frames import as_arrow, one_batch, one_row


def read_arrow(body: bytes) -> Rows:
    """The rows of an Arrow stream. Raises InputError."""
    try:
        with pa.ipc.open_stream(body) as stream:
            table = stream.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"the body is no whole Arrow stream: {error}") from None
    return Rows(one_batch(as_arrow(table)))


def write_arrow(columns: Columns) -> bytes:
    """An Arrow stream of the probabilities."""
    table = pa.table({name: array_of(values) for name, values in columns.items()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


def read_json(body: bytes, signature: Signature) -> tuple[Rows, bool]:
    """The rows of `{"rows": [{…}, …]}` or `{"columns": {…: […]}}`, with `"shared": {…}` for what holds for all, and
    whether they came by column. Raises InputError."""
    said = loads(body)
    unknown = said.keys() - {"rows", "columns", "shared"}
    if unknown or ("rows" in said) == ("columns" in said):
        raise InputError('give {"rows": [{…}, …]} or {"columns": {…: […]}}, and "shared": {…} for what holds for all')
    by_column = "columns" in said
    columns = said["columns"] if by_column else _columns_of(said["rows"])
    if not isinstance(columns, dict):
        raise InputError('"columns" is no object; give a list of values for each column')
    own = {name: values for name, values in columns.items() if name in signature.inputs}
    if not own:
        raise InputError(f"the rows have none of the model's columns, such as {next(iter(signature.inputs))!r}")
    rows = one_batch(as_arrow(own))
    shared = said.get("shared")
    return Rows(rows, None if shared is None else one_row(shared, rows.schema.names)), by_column


def _columns_of(rows: Any) -> dict[str, list[Any]]:
    """Null where a row lacks a column that another has."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError('"rows" is no list of objects; give an object for each row, such as {"user": 17}')
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def write_json(columns: Columns, by_column: bool, name: str, version: str) -> bytes:
    """The probabilities in the form that the rows had."""
    said: dict[str, Any] = {"model": name, "version": version}
    if by_column:
        said["columns"] = dict(columns)
    else:
        rows = zip(*(np.asarray(values).tolist() for values in columns.values()), strict=True)
        said["rows"] = [dict(zip(columns, row, strict=True)) for row in rows]
    return orjson.dumps(said, option=orjson.OPT_SERIALIZE_NUMPY)
