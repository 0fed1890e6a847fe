"""Raw rows of a file, with the column of a key beside what the schema names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from funnelcast.data.encoder import Encoder
from funnelcast.data.log.roles import columns, uses
from funnelcast.data.log.rows import read_rows


def rows_with(
    path: Path, encoder: Encoder, out: Path, column: str | None, texts: dict[str, int] | None = None
) -> Iterator[pa.RecordBatch]:
    """As `read_rows`, with one column more where there is one of that name."""
    schema = encoder.schema
    if column is not None and column not in columns(uses(schema, split=False)):
        schema = schema.model_copy(update={"keep": (*schema.keep, column)})
    return read_rows(path, replace(encoder, schema=schema), out, texts=texts)
