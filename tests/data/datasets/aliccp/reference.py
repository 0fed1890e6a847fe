"""Ali-CCP's raw format written, and its processing done slowly with dicts, to hold the byte path against.

Single-valued fields are AITM's; of multi-valued ones every id of the common line, then every one of the skeleton line.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from funnelcast.data.columns import Ragged
from funnelcast.data.datasets.aliccp.schema import aliccp_schema
from funnelcast.schema.dataset import Schema

Features = Sequence[tuple[str, int, str]]


def small_schema(fields: Sequence[str], min_count: int, multi: Sequence[str] = (), weighted: bool = True) -> Schema:
    """Of `fields` those in `multi` are multi-valued."""
    features: dict[str, dict[str, Any]] = {name: {"min_count": min_count} for name in fields}
    for name in multi:
        features[name] |= {"kind": "multi", "weights": f"{name}_value" if weighted else None}
    return Schema.from_dict({**aliccp_schema().model_dump(), "features": features})


def feature_list(features: Features) -> str:
    listed = "\x01".join(f"{name}\x02{number}\x03{value}" for name, number, value in features)
    return f"{len(features)},{listed}"


def parsed(text: str) -> list[tuple[str, int, str]]:
    """`"101:5 205:7:0.5"` as features; the value is 1.0 where none is given."""
    parts = [[*part.split(":"), "1.0"] for part in text.split()]
    return [(name, int(number), value) for name, number, value, *_ in parts]


def skeleton_line(sample: str, click: int, conversion: int, index: str, features: Features) -> str:
    return f"{sample},{click},{conversion},{index},{feature_list(features)}"


def common_line(index: str, features: Features) -> str:
    return f"{index},{feature_list(features)}"


def write_lines(path: Path, lines: Sequence[str], end: str = "\n") -> Path:
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


@dataclass
class Row:
    labels: tuple[int, int]
    raw: dict[str, str]  # of the single-valued fields
    lists: dict[str, list[tuple[str, float]]] = field(default_factory=dict)  # of the multi-valued ones: id, value


def rows_of(
    skeleton: Sequence[str], common: Sequence[str], fields: Sequence[str], multi: Sequence[str] = ()
) -> list[Row]:
    """The kept rows of well-formed lines."""
    lists_of = {index: listed for index, _, listed in (line.split(",") for line in common)}
    rows = []
    for line in skeleton:
        _, click, conversion, index, _, listed = line.split(",")
        if click == "0" and conversion == "1":
            continue
        shared, own = _split(lists_of[index]), _split(listed)
        merged = {name: id_ for name, id_, _ in own} | {name: id_ for name, id_, _ in shared}
        raw = {name: merged[name] for name in fields if name in merged and name not in multi}
        lists = {name: [(id_, float(v)) for other, id_, v in shared + own if other == name] for name in multi}
        rows.append(Row((int(click), int(conversion)), raw, lists))
    return rows


def _split(listed: str) -> list[list[str]]:
    """Field, id and value of every feature."""
    return [feature.replace("\x03", "\x02").split("\x02") for feature in listed.split("\x01")] if listed else []


def vocabulary_of(rows: Sequence[Row], fields: Sequence[str], min_count: int) -> dict[str, dict[str, int]]:
    """Raw id to id, by field, ascending."""
    vocabulary = {}
    for name in fields:
        counts = Counter(row.raw[name] for row in rows if name in row.raw)
        counts += Counter(id_ for row in rows for id_, _ in row.lists.get(name, []))
        kept = sorted((raw for raw, count in counts.items() if count >= min_count), key=int)
        vocabulary[name] = {raw: i for i, raw in enumerate(kept, start=1)}
    return vocabulary


def ids_of(rows: Sequence[Row], vocabulary: dict[str, dict[str, int]], multi: Sequence[str] = ()) -> list[list[int]]:
    """Of the single-valued fields."""
    single = [name for name in vocabulary if name not in multi]
    return [[vocabulary[name].get(row.raw.get(name, ""), 0) for name in single] for row in rows]


def aitm_dev(count: int) -> list[bool]:
    """Which of the kept training rows are dev."""
    stream = random.Random(2020)
    return [stream.random() >= 0.9 for _ in range(count)]


def listed(lists: Ragged) -> list[list[tuple[int, float]]]:
    """Ids and weights of every row, the weights 1 where there are none."""
    own = lists.take(np.arange(len(lists)))
    weights = np.ones(len(own.ids)) if own.weights is None else own.weights
    pairs = list(zip(own.ids.tolist(), weights.tolist(), strict=True))
    return [pairs[begin:end] for begin, end in pairwise(own.offsets.tolist())]
