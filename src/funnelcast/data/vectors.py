"""Vectors for the values of a vocabulary, from a Parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from funnelcast.data.encoder import flat_lists
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.errors import InputError, did_you_mean

VECTOR = "vector"
"""The column that holds them."""


class Vectors(NamedTuple):
    """Those of a file that the vocabulary knows."""

    ids: NDArray[np.int32]  # (n,), each at least 1
    values: NDArray[np.float32]  # (n, E)


def read_vectors(file: Path, vocabulary: Vocabulary, name: str, width: int) -> Vectors:
    """The vectors of `width` numbers for the values of the vocabulary `name`, which is also the name of their column.

    Values that the vocabulary lacks are passed over. Raises InputError for a file that is not as described, or that
    knows no value at all.
    """
    table = _read(file, name)
    values = table[name].combine_chunks()
    flat, offsets = flat_lists(table[VECTOR].combine_chunks(), VECTOR)
    lengths = np.diff(offsets)
    if wrong := lengths[lengths != width].tolist():
        raise InputError(
            f"{file}: vectors have {wrong[0]} numbers, embeddings of {name!r} {width}; set embedding_dims = "
            f"{{{name} = {wrong[0]}}} in [model]" + ("" if len(set(lengths)) == 1 else ", and give all the same length")
        )
    numbers = _numbers(flat, file).reshape(len(table), width)
    ids = vocabulary.ids(values, name)
    known = ids > 0
    if not known.any():
        raise InputError(f"{file} has no value of the vocabulary {name!r} among its {len(table)}; compare their types")
    if len(np.unique(ids[known])) < known.sum():
        raise InputError(f"{file} has a value of {name!r} twice; keep one vector each")
    return Vectors(ids[known], numbers[known])


def _read(file: Path, name: str) -> pa.Table:
    if not file.is_file():
        raise InputError(f"{file} does not exist; give the Parquet file with the vectors of {name!r}")
    try:
        table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file} cannot be read as Parquet ({error}); write it again") from None
    for column in (name, VECTOR):
        if column not in table.column_names:
            hint = did_you_mean(column, table.column_names)
            raise InputError(f"{file} has no column {column!r}, and needs {name!r} and {VECTOR!r}; {hint}")
    return table


def _numbers(flat: pa.Array, file: Path) -> NDArray[np.float32]:
    kind = flat.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)) or flat.null_count:
        raise InputError(f"{file}: {VECTOR!r} holds {kind} with {flat.null_count} nulls; give lists of numbers")
    numbers = np.asarray(pc.cast(flat, pa.float32(), safe=False).to_numpy(zero_copy_only=False))
    if not np.isfinite(numbers).all():
        raise InputError(f"{file}: {VECTOR!r} holds numbers that are not finite; mend them")
    return numbers
