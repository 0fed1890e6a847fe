"""Ali-CCP by AITM's processing in Python, one line after the other: the other side of `scripts/bench prepare`.

The same rows, fields, vocabularies and dev draws as `funnelcast prepare ali-ccp`, without its checks. With --published
it goes about it as the script of AITM's authors does: a numpy array of strings of each line, and ids counted by a walk
over all features of each joined row, those of no use too. `python -m bench.peers.by_line RAW OUT [--published]`
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import numpy as np

FIELDS: Final = "101 121 122 124 125 126 127 128 129 205 206 207 216 508 509 702 853 301".split()  # noqa: SIM905
LEAST: Final = 12
"""Occurrences of an id that is kept."""
_PARTS: Final = re.compile("[\x01\x02\x03]")


def main() -> int:
    """Writes OUT/train.csv, dev.csv and test.csv of ids, and prints the sizes of the vocabularies."""
    raw, out, published = Path(sys.argv[1]), Path(sys.argv[2]), "--published" in sys.argv
    out.mkdir(parents=True)
    counts: dict[str, Counter[str]] = {field: Counter() for field in FIELDS}
    for part in ("train", "test"):
        with (out / f"{part}.joined.csv").open("w") as file:
            for labels, row in rows(raw, part, published):
                file.write(",".join((*labels, *(row.get(field, "") for field in FIELDS))) + "\n")
                if part == "train":
                    count(row, counts, published)
    vocabularies = [fit(counter) for counter in counts.values()]
    draw = random.Random(2020).random
    encode(out, "train", vocabularies, lambda: "train" if draw() < 0.9 else "dev")
    encode(out, "test", vocabularies, lambda: "test")
    sizes = {field: 1 + len(vocabulary) for field, vocabulary in zip(FIELDS, vocabularies, strict=True)}
    sys.stdout.write(json.dumps(sizes) + "\n")
    return 0


def rows(raw: Path, part: str, published: bool) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Click and conversion, and ids by field, of each row that is kept."""
    common = {}
    with (raw / f"common_features_{part}.csv").open() as lines:
        for line in lines:
            key, _, features = line.rstrip("\n").split(",")
            common[key] = ids(features, published)
    with (raw / f"sample_skeleton_{part}.csv").open() as lines:
        for line in lines:
            _, click, conversion, key, _, features = line.rstrip("\n").split(",")
            if (click, conversion) != ("0", "1"):
                yield [click, conversion], ids(features, published) | common[key]


def ids(features: str, published: bool) -> dict[str, str]:
    """By field; of a repeated one the last."""
    parts: Sequence[str] = _PARTS.split(features)
    if published:
        parts = np.array(parts)  # type: ignore[assignment]
    return dict(zip(parts[0::3], parts[1::3], strict=True))


def count(row: dict[str, str], counts: dict[str, Counter[str]], published: bool) -> None:
    """A row's ids."""
    if published:
        for field, value in row.items():
            if field in FIELDS:
                counts[field][value] += 1
    else:
        for field, counter in counts.items():
            if field in row:
                counter[row[field]] += 1


def fit(counter: Counter[str]) -> dict[str, int]:
    """Numbers from 1 of the ids that are kept."""
    return {value: number for number, value in enumerate(sorted(v for v, n in counter.items() if n >= LEAST), 1)}


def encode(out: Path, part: str, vocabularies: list[dict[str, int]], draw: Callable[[], str]) -> None:
    """Joined rows as numbers, each to the part that is drawn for it."""
    with ExitStack() as stack:
        written = {name: stack.enter_context((out / f"{name}.csv").open("a")) for name in ("train", "dev", "test")}
        for line in stack.enter_context((out / f"{part}.joined.csv").open()):
            click, conversion, *values = line.rstrip("\n").split(",")
            found = (str(own.get(value, 0)) for own, value in zip(vocabularies, values, strict=True))
            written[draw()].write(",".join((click, conversion, *found)) + "\n")


if __name__ == "__main__":
    sys.exit(main())
