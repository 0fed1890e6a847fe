"""Raw Ali-CCP lines and CSV logs with one line, cell or header that is not as it should be."""

from __future__ import annotations

import random
from pathlib import Path

from proofs.material import Material
from proofs.mutants import WEIRD, Mutant, misspelt, odd_bytes, shown, written

TOKENS = (
    "",
    "2",
    "-1",
    "0.5",
    "x",
    "1e5",
    "99999999999999999999",
    "NaN",
    "\x01",
    "\x02",
    "\x03",
    ",",
    "ü",
    " 1",
    "0x1",
    "1\r",
)


def ali_ccp(made: Material, scratch: Path, rng: random.Random) -> Mutant:
    """A line of the skeleton or of the common features mutated; the message or its list tells file and line."""
    for name in ("sample_skeleton_train.csv", "common_features_train.csv"):
        written(scratch / name, (made.folder / "raw" / name).read_bytes())
    name = rng.choice(("sample_skeleton_train.csv", "common_features_train.csv"))
    content = (scratch / name).read_bytes()
    out = scratch / "table"
    arguments = ("prepare", "ali-ccp", "--train", scratch / "sample_skeleton_train.csv", "--out", out)
    if rng.random() < 0.2:
        content, what = odd_bytes(content, rng)
        written(scratch / name, content)
        return Mutant("Ali-CCP lines", f"{name} {what}", arguments, (name, "table.quarantine.csv"))
    lines = content.split(b"\n")
    number = rng.randrange(len(lines) - 1)
    lines[number], what = _line(lines[number], rng)
    written(scratch / name, b"\n".join(lines))
    names = (name, "table.quarantine.csv") if number == 0 else ("table.quarantine.csv",)  # a file is told by its start
    return Mutant("Ali-CCP lines", f"{name} {what}", arguments, names)


def _line(line: bytes, rng: random.Random) -> tuple[bytes, str]:
    token = rng.choice(TOKENS).encode()
    separator = rng.choice((b",", b"\x01", b"\x02", b"\x03"))
    parts = line.split(separator)
    i = rng.randrange(len(parts))
    ways = {
        f"part {i} of {separator!r} is {token!r}": separator.join([*parts[:i], token, *parts[i + 1 :]]),
        f"part {i} of {separator!r} is gone": separator.join([*parts[:i], *parts[i + 1 :]]),
        f"part {i} of {separator!r} twice": separator.join([*parts[:i], parts[i], *parts[i:]]),
        "bytes": odd_bytes(line, rng)[0],
    }
    what = rng.choice(list(ways))
    return ways[what], what


def csv_logs(made: Material, scratch: Path, rng: random.Random) -> Mutant:
    path, what, names = _csv(made, scratch, rng)
    arguments = ("prepare", made.folder / "plain.toml", "--train", path, "--out", scratch / "table")
    return Mutant("CSV log", what, arguments, (*names, "table.quarantine.csv"))


def csv_rows(made: Material, scratch: Path, rng: random.Random) -> Mutant:
    path, what, names = _csv(made, scratch, rng)
    arguments = ("predict", made.folder / "run/bundle", path, "--out", scratch / "p.csv")
    return Mutant("CSV rows to predict", what, arguments, names)


def _csv(made: Material, scratch: Path, rng: random.Random) -> tuple[Path, str, tuple[str, ...]]:
    path = scratch / rng.choice(("log.csv", "lög [b].csv", "log.csv", "log.CSV", "log.csv.gz", "log.txt"))
    content = (made.folder / "log.csv").read_bytes()
    if path.name in ("log.csv.gz", "log.txt"):
        return written(path, content), f"named {path.name}", (path.name,)
    if rng.random() < 0.3:
        content, what = odd_bytes(content, rng)
        return written(path, content), what, (path.name,)
    lines = content.decode().split("\n")
    way = rng.choice((_header, _cell, _cell, _row))
    what, names = way(lines, rng)
    return written(path, "\n".join(lines).encode()), what, (path.name, *names)


def _header(lines: list[str], rng: random.Random) -> tuple[str, tuple[str, ...]]:
    names = lines[0].split(",")
    i = rng.randrange(len(names))
    before, names[i] = names[i], rng.choice((misspelt(names[i], rng), rng.choice(names), str(rng.choice(WEIRD))))
    lines[0] = ",".join(names)
    return f"column {before} named {names[i]!r}", (before, *shown(names[i]))


def _cell(lines: list[str], rng: random.Random) -> tuple[str, tuple[str, ...]]:
    value, column = str(rng.choice((*WEIRD, *TOKENS))), rng.randrange(lines[0].count(",") + 1)
    quoted = '"' + value.replace('"', '""') + '"' if rng.random() < 0.5 else value
    chosen = range(1, len(lines) - 1) if rng.random() < 0.3 else [rng.randrange(1, len(lines) - 1)]
    for row in chosen:
        cells = lines[row].split(",")
        cells[column] = quoted
        lines[row] = ",".join(cells)
    name = lines[0].split(",")[column]
    return f"{name} {quoted!r} in {len(chosen)} rows", (name, *shown(value))


def _row(lines: list[str], rng: random.Random) -> tuple[str, tuple[str, ...]]:
    row = rng.randrange(1, len(lines) - 1)
    ways = {"a cell more": lines[row] + ",1", "a cell less": lines[row].rpartition(",")[0],
            "an empty line": "", "the header again": lines[0], "an open quote": '"' + lines[row],
            "semicolons": lines[row].replace(",", ";")}  # fmt: skip
    what = rng.choice(list(ways))
    lines[row] = ways[what]
    return f"{what} in line {row + 1}", (f"line {row + 1}",)
