"""Experiment and schema files: one setting misspelt, mistyped, out of range, missing or added, or broken as text."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from proofs.material import EXPERIMENT, PLAIN, RICH, Material, toml
from proofs.mutants import WEIRD, Mutant, misspelt, odd_bytes, odd_value, shown, written

STEPS = (
    "click; buy after clik", "click; click", "buy after click; click", "click buy", ";", "click; buy after",
    "click; buy after buy", "1click", "click; buy after click; like", "cl-ick", "click;;buy after click", "Klick",
    "click -> buy",
)  # fmt: skip
DIALECTS = (
    "a = [",
    "a = 1\na = 2",
    "[model]\n[model]",
    'name = "x',
    "= 3",
    "a.b = 1\na = 2",
    "\x01",
    "name = 'x'\n[[name]]",
)


def experiments(made: Material, scratch: Path, rng: random.Random) -> Mutant:
    path = scratch / "small.toml"
    what, names = _mutated(path, EXPERIMENT, rng)
    out = scratch / "run"
    return Mutant("experiment file", what, ("train", path, "--data", made.folder / "table", "--out", out), names)


def schemas(made: Material, scratch: Path, rng: random.Random) -> Mutant:
    path = scratch / "schema.toml"
    base = copy.deepcopy(rng.choice((PLAIN, RICH)))
    if rng.random() < 0.15:
        base["funnel"]["steps"] = rng.choice(STEPS)
        what, names = f"steps = {base['funnel']['steps']!r}", _words(base["funnel"]["steps"])
        path.write_text(toml(base))
    else:
        what, names = _mutated(path, base, rng)
    arguments = ("prepare", path, "--train", made.folder / "log.parquet", "--out", scratch / "table")
    return Mutant("schema file", what, arguments, names)


def _words(steps: str) -> tuple[str, ...]:
    return (*(word for word in steps.replace(";", " ").split() if word != "after"), repr(steps.strip(" ;")), "''")


def _mutated(path: Path, base: dict[str, Any], rng: random.Random) -> tuple[str, tuple[str, ...]]:
    """Write a mutated file; what was done, and what a refusal must name."""
    if rng.random() < 0.12:
        content, what = odd_bytes(toml(base).encode(), rng)
        written(path, content)
        words = set(re.findall(r"\w+", content.decode("utf-8", "replace"))) - set(re.findall(r"\w+", toml(base)))
        return what, (path.name, *words)
    if rng.random() < 0.08:
        dialect = rng.choice(DIALECTS)
        path.write_text(toml(base) + dialect)
        return f"{dialect!r} added", (path.name,)
    settings = copy.deepcopy(base)
    holder, key = rng.choice(list(_locations(settings)))
    what, names = rng.choice((_replace, _replace, _replace, _rename, _remove, _add))(holder, key, rng)
    path.write_text(toml(settings))
    return what, names


def _locations(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (dict, key) and (list, index) below a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in list(items):
        yield value, key
        yield from _locations(below)


def _replace(holder: Any, key: Any, rng: random.Random) -> tuple[str, tuple[str, ...]]:
    before, value = holder[key], odd_value(rng)
    holder[key] = value
    inner = tuple(before) if isinstance(before, dict) else ()
    return f"{key} = {value!r}", (*_name(key), *shown(value), *inner)


def _rename(holder: Any, key: Any, rng: random.Random) -> tuple[str, tuple[str, ...]]:
    if isinstance(holder, list):
        return _replace(holder, key, rng)
    name = rng.choice((misspelt(key, rng), misspelt(key, rng), rng.choice(WEIRD)))
    holder[name] = holder.pop(key)
    return f"{key} renamed to {name!r}", (key, *shown(name))


def _remove(holder: Any, key: Any, rng: random.Random) -> tuple[str, tuple[str, ...]]:
    before = holder.pop(key)
    needs = ("tower_dropout", "positive_weight", "features", "column", "model", "weights")
    return f"{key} removed", (*_name(key), *shown(before), *needs)


def _add(holder: Any, key: Any, rng: random.Random) -> tuple[str, tuple[str, ...]]:
    value = odd_value(rng)
    if isinstance(holder, list):
        holder.append(value)
        return f"{value!r} added to a list", (*shown(value), str(len(holder) - 1), "tower_dropout", "positive_weight")
    name = rng.choice(WEIRD)
    holder[name] = value
    return f"{name!r} = {value!r} added", (*shown(name), *shown(value))


def _name(key: Any) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else (f".{key}",)
