"""Parquet logs, rows to predict, predictions to compare: a column missing, doubled, retyped or full of oddities."""

from __future__ import annotations

import datetime
import random
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from proofs.material import Material
from proofs.mutants import WEIRD, Mutant, misspelt, odd_bytes, written

COLUMNS: dict[str, Any] = {
    "null": lambda n: pa.nulls(n),
    "one null": lambda n: pa.array([None, *range(n - 1)], pa.int64()),
    "NaN": lambda n: pa.array([float("nan")] * n),
    "infinite": lambda n: pa.array([float("inf"), -float("inf")] * (n // 2) + [1.0] * (n % 2)),
    "huge": lambda n: pa.array([2**63 - 1 - i for i in range(n)]),
    "huge unsigned": lambda n: pa.array([2**64 - 1] * n, pa.uint64()),
    "huge floats": lambda n: pa.array([1.7e308 * (-1) ** i for i in range(n)]),
    "halves": lambda n: pa.array([i / 2 for i in range(n)]),
    "float16": lambda n: pa.array([float(i % 2) for i in range(n)]).cast(pa.float16()),
    "negative": lambda n: pa.array([-1] * n),
    "texts": lambda n: pa.array([str(WEIRD[i % len(WEIRD)]) for i in range(n)]),
    "texts of numbers": lambda n: pa.array([str(i) for i in range(n)]),
    "large texts": lambda n: pa.array(["x"] * n, pa.large_string()),
    "bytes": lambda n: pa.array([b"\xff\x00"] * n),
    "booleans": lambda n: pa.array([i % 2 == 0 for i in range(n)]),
    "dates": lambda n: pa.array([datetime.date(2020, 1, 1)] * n),
    "times": lambda n: pa.array([datetime.datetime(2020, 1, 1)] * n),
    "durations": lambda n: pa.array([datetime.timedelta(1)] * n),
    "decimals": lambda n: pa.array([Decimal("1.5")] * n),
    "dictionary": lambda n: pa.array(["a", "b"] * (n // 2) + ["a"] * (n % 2)).dictionary_encode(),
    "lists": lambda n: pa.array([[1]] * n),
    "lists of lists": lambda n: pa.array([[[1]]] * n),
    "lists of nulls": lambda n: pa.array([[None], None] * (n // 2) + [[]] * (n % 2), pa.list_(pa.null())),
    "lists of texts": lambda n: pa.array([["a", None], []] * (n // 2) + [["b"]] * (n % 2)),
    "structs": lambda n: pa.array([{"a": 1}] * n),
    "maps": lambda n: pa.array([[("a", 1)]] * n, pa.map_(pa.string(), pa.int64())),
}


def parquet_logs(made: Material, scratch: Path, rng: random.Random) -> Mutant:
    what, names, path = _file(made.log, scratch / rng.choice(("log.parquet", "lög [b].parquet")), rng)
    schema = made.folder / rng.choice(("plain.toml", "rich.toml"))
    arguments = ("prepare", schema, "--train", path, "--out", scratch / "table")
    return Mutant("Parquet log", what, arguments, (*names, "table.quarantine.csv"))


def parquet_rows(made: Material, scratch: Path, rng: random.Random) -> Mutant:
    what, names, path = _file(made.log, scratch / rng.choice(("rows.parquet", "[i]röws.parquet")), rng)
    arguments = ("predict", made.folder / "run/bundle", path, "--out", scratch / rng.choice(("p.csv", "p.parquet")))
    return Mutant("Parquet rows to predict", what, arguments, names)


def predictions(made: Material, scratch: Path, rng: random.Random) -> Mutant:
    what, names, path = _file(made.predictions, scratch / "p.parquet", rng)
    files = [path, made.folder / "predictions.parquet"]
    rng.shuffle(files)
    return Mutant("predictions to compare", what, ("compare", *rng.choice((files, [path, path]))), (*names, "rows"))


def folders(made: Material, scratch: Path, rng: random.Random) -> Mutant:
    """A table or bundle with a file damaged or gone; the other one whole."""
    name = rng.choice(("table", "run/bundle"))
    damaged = scratch / "damaged"
    shutil.copytree(made.folder / name, damaged)
    path = rng.choice(sorted(file for file in damaged.rglob("*") if file.is_file()))
    if rng.random() < 0.2:
        path.unlink()
        what = "gone"
    else:
        content, what = odd_bytes(path.read_bytes(), rng)
        written(path, content)
    both = (damaged, made.folder / "table") if name != "table" else (made.folder / "run/bundle", damaged)
    verb = rng.choice((("evaluate",), ("evaluate", "--part", "train"), ("predict", "--out", scratch / "p.csv")))
    same = ("evaluate", made.folder / "run/bundle", made.folder / "table", *verb[1:]) if verb[0] == "evaluate" else ()
    arguments = (verb[0], *both, *verb[1:])
    return Mutant("table or bundle", f"{path.name} {what}", arguments, (path.name, "damaged"), same)


def _file(table: pa.Table, path: Path, rng: random.Random) -> tuple[str, tuple[str, ...], Path]:
    """Write a mutated table; what was done, what a refusal must name, and where it stands."""
    table, what, name = _changed(table, rng)
    pq.write_table(table, path)
    if rng.random() < 0.08:
        content, what = odd_bytes(path.read_bytes(), rng)
        written(path, content)
        name = path.name
    names = (name, path.name, "buy" if name == "bought" else path.name)  # predictions call a label by its step
    return what, names, path


def _changed(table: pa.Table, rng: random.Random) -> tuple[pa.Table, str, str]:
    i = rng.randrange(table.num_columns)
    name, n = table.column_names[i], len(table)
    way = rng.choice(("retyped",) * 6 + ("gone", "renamed", "renamed", "twice", "rows"))
    if way == "gone":
        return table.remove_column(i), f"{name} gone", name
    if way == "renamed":
        new = rng.choice((misspelt(name, rng), str(rng.choice(WEIRD))))
        return (
            table.rename_columns([*table.column_names[:i], new, *table.column_names[i + 1 :]]),
            f"{name} → {new!r}",
            name,
        )
    if way == "twice":
        return table.append_column(name, table.column(rng.randrange(table.num_columns))), f"{name} twice", name
    if way == "rows":
        rows = rng.choice((0, 1, 2))
        return table.slice(0, rows), f"{rows} rows", "rows"
    kind = rng.choice(list(COLUMNS))
    return table.set_column(i, name, COLUMNS[kind](n)), f"{name} {kind}", name
