"""What texts stand for: a list in one text, as `12|7|93`, numbers, and words for missing."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from funnelcast.errors import InputError

MISSING = ("na", "n/a", "nan", "null", "none")
"""Words that mean a missing number, in any case; in a column with other texts they are texts like any other."""
_NUMBERS: dict[str, str | None] = {"true": "1", "false": "0", **dict.fromkeys(MISSING)}
_KINDS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)

LISTS = pa.large_list(pa.large_string())
"""The type of texts that were split."""


def is_text(kind: pa.DataType) -> bool:
    """Whether values of an Arrow type are texts."""
    return any(fits(kind) for fits in _KINDS)


def split(texts: pa.Array, separator: str) -> pa.Array:
    """Texts (N,) as `LISTS` of what stands between the separators: nothing in an empty or missing text; null for an
    empty element, so that `a||b|` has four, two of them null."""
    texts = texts.cast(pa.large_string())  # of what is no plain text, dictionaries and views, nothing can be split
    parts = pc.split_pattern(pc.if_else(pc.equal(texts, ""), None, texts), separator)
    elements = parts.flatten()
    elements = pc.if_else(pc.equal(elements, ""), None, elements)
    return pa.LargeListArray.from_arrays(parts.offsets.cast(pa.int64()), elements)


def as_numbers(texts: pa.Array, name: str) -> pa.Array:
    """Numbers (N,), float64, of the texts in a column, with `true` as 1, `false` as 0 and null for missing. Raises
    InputError for any other text."""
    texts = pc.utf8_trim_whitespace(texts)
    words = pc.utf8_lower(texts)
    for word, number in _NUMBERS.items():
        texts = pc.if_else(pc.equal(words, word), number, texts)
    try:
        return texts.cast(pa.float64())
    except pa.ArrowInvalid as error:
        raise InputError(f"column {name!r} cannot be read as numbers: {error}; mend it") from None
