"""Ali-CCP's raw format written, and AITM's processing done slowly with dicts, to hold the byte path against."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from funnelcast.data.datasets.aliccp.schema import aliccp_schema
from funnelcast.schema.dataset import Schema

Features = Sequence[tuple[str, int]]


def small_schema(fields: Sequence[str], min_count: int) -> Schema:
    features = {name: {"kind": "categorical", "min_count": min_count} for name in fields}
    return Schema.from_dict({**aliccp_schema().model_dump(), "features": features})


def feature_list(features: Features, value: str = "1.0") -> str:
    listed = "\x01".join(f"{field}\x02{number}\x03{value}" for field, number in features)
    return f"{len(features)},{listed}"


def parsed(text: str) -> list[tuple[str, int]]:
    """`"101:5 205:7"` as features."""
    return [(field, int(number)) for field, _, number in (part.partition(":") for part in text.split())]


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
    raw: dict[str, str]  # of the wanted fields


def aitm_rows(skeleton: Sequence[str], common: Sequence[str], fields: Sequence[str]) -> list[Row]:
    """The kept rows of well-formed lines."""
    shared = {}
    for line in common:
        index, _, listed = line.split(",")
        shared[index] = _as_dict(listed)
    rows = []
    for line in skeleton:
        _, click, conversion, index, _, listed = line.split(",")
        if click == "0" and conversion == "1":
            continue
        merged = _as_dict(listed)
        merged.update(shared[index])
        raw = {field: merged[field] for field in fields if field in merged}
        rows.append(Row((int(click), int(conversion)), raw))
    return rows


def _as_dict(listed: str) -> dict[str, str]:
    parts = [feature.split("\x02") for feature in listed.split("\x01")] if listed else []
    return {field: rest.split("\x03")[0] for field, rest in parts}


def aitm_vocabulary(rows: Sequence[Row], fields: Sequence[str], min_count: int) -> dict[str, dict[str, int]]:
    """Raw id to id, by field, ascending."""
    vocabulary = {}
    for field in fields:
        counts = Counter(row.raw[field] for row in rows if field in row.raw)
        kept = sorted((raw for raw, count in counts.items() if count >= min_count), key=int)
        vocabulary[field] = {raw: i for i, raw in enumerate(kept, start=1)}
    return vocabulary


def aitm_ids(rows: Sequence[Row], vocabulary: dict[str, dict[str, int]]) -> list[list[int]]:
    return [[ids.get(row.raw.get(field, ""), 0) for field, ids in vocabulary.items()] for row in rows]


def aitm_dev(count: int) -> list[bool]:
    """Which of the kept training rows are dev."""
    stream = random.Random(2020)
    return [stream.random() >= 0.9 for _ in range(count)]
