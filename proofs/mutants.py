"""A mutant: an input with one thing wrong, or odd, and the call that meets it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WEIRD: tuple[Any, ...] = (
    "", " ", "x", "[/]", "[bold]x[/bold]", ":smile:", "ü 😀", "a'b", 'a"b', "a\\b", "{0} %s", "..", "a/b", "nan", "NA",
    "-1", "1e999", "0x10", "١٢", "\u202etxt", "p_click", "__row", "__part", "train", "x" * 300, "line\nbreak",
    "tab\tbed", "3", "0.5",
)  # fmt: skip
NUMBERS: tuple[Any, ...] = (
    0, 1, 2, -1, 0.5, 1.0, -0.0, 1e-320, 1e308, float("nan"), float("inf"), -float("inf"), 2**31, 2**63, -(2**63),
    10**30,
)  # fmt: skip
SHAPES: tuple[Any, ...] = (True, False, [], [1], ["x"], [[]], {}, {"x": 1}, [{}])


@dataclass(frozen=True)
class Mutant:
    """One call on mutated input."""

    kind: str
    what: str
    """The mutation, in words."""
    arguments: tuple[object, ...]
    names: tuple[str, ...]
    """When it is refused, the message holds one of these."""
    same_as: tuple[object, ...] = ()
    """When it is accepted, it says what this call says."""


def odd_value(rng: random.Random) -> Any:
    return rng.choice(rng.choice((WEIRD, NUMBERS, SHAPES)))


def misspelt(name: str, rng: random.Random) -> str:
    """A letter dropped, doubled, replaced or two swapped; never the name itself."""
    if len(name) < 2:
        return name + "x"
    i = rng.randrange(len(name) - 1)
    ways = (name[:i] + name[i + 1 :], name[:i] + name[i] + name[i:], name[:i] + "q" + name[i + 1 :], name.upper())
    return rng.choice([way for way in ways if way != name] or [name + "x"])


def shown(value: object) -> tuple[str, ...]:
    """The ways in which a message may show a value."""
    text = str(value)
    return tuple(way for way in (text, repr(value), text[:40], repr(value)[:40], text.strip()) if way)


def odd_bytes(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """A file as a broken disk, a wrong tool or a careless hand leaves it."""
    at = rng.randrange(len(content))
    ways = {
        "emptied": b"",
        "cut off": content[:at],
        "a byte that is no UTF-8": content[:at] + b"\xff" + content[at:],
        "a NUL byte": content[:at] + b"\0" + content[at:],
        "a byte flipped": content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :],
        "a mark before it": b"\xef\xbb\xbf" + content,
        "UTF-16": content.decode("utf-8", "replace").encode("utf-16"),
        "line ends of Windows": content.replace(b"\n", b"\r\n"),
        "line ends of old Macs": content.replace(b"\n", b"\r"),
        "noise": rng.randbytes(500),
        "a gzip header": b"\x1f\x8b" + content,
        "said twice": content + content,
    }
    what = rng.choice(list(ways))
    return ways[what], what


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
