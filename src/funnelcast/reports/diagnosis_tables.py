"""The numbers of a diagnosis that are few enough to be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from funnelcast.experiments.formatting import number, short
from funnelcast.reports.table import Cell, Column, Table, text

Diagnosis = Mapping[str, Any]


def numbers_of(diagnosis: Diagnosis) -> Iterator[Table]:
    """A table for each part there is."""
    made: dict[str, Callable[[Any], Table]] = {
        "frequency": _frequency,
        "gates": _gates,
        "attention": _attention,
        "conflict": _conflict,
        "time": _time,
    }
    for key, make in made.items():
        if diagnosis.get(key):
            yield make(diagnosis[key])


def _named(*labels: str) -> list[Column]:
    return [Column(label, is_text=True, falls=False) for label in labels]


def _frequency(found: Diagnosis) -> Table:
    columns = [*_named("output", found["field"]), *map(Column, ("rows", "positives", "AUC")), *_named("note")]
    rows = [
        [
            text(output),
            text(bucket["name"]),
            Cell(number(bucket["rows"]), bucket["rows"]),
            Cell(number(bucket["positives"]), bucket["positives"]),
            Cell(short(bucket.get("auc")), bucket.get("auc"), _bounds(bucket)),
            text(bucket.get("note") or ""),
        ]
        for output, buckets in found["outputs"].items()
        for bucket in buckets
    ]
    return Table(f"AUC by frequency of {found['field']}", columns, rows)


def _gates(found: Diagnosis) -> Table:
    columns = [*_named("step", "expert"), Column("mean weight"), Column("entropy, nats"), Column("at most")]
    rows = [
        [
            text(step),
            text(expert["name"]),
            Cell(short(expert["share"], 3), expert["share"]),
            Cell(short(gate["entropy"], 3), gate["entropy"]),
            Cell(short(gate["most"], 3), gate["most"]),
        ]
        for step, gate in found.items()
        for expert in gate["experts"]
    ]
    return Table("Use of experts", columns, rows)


def _attention(found: Sequence[Diagnosis]) -> Table:
    columns = [*_named("step", "gives the step before"), *map(Column, ("mean", "5 %", "25 %", "50 %", "75 %", "95 %"))]
    rows = [
        [text(pair["child"]), text(pair["parent"]), *(_share(v) for v in (pair["mean"], *pair["quantiles"]))]
        for pair in found
    ]
    return Table("Attention", columns, rows)


def _share(value: float) -> Cell:
    return Cell(short(value, 3), value)


def _conflict(found: Sequence[Diagnosis]) -> Table:
    columns = [*_named("step", "and", "parameters"), Column("cosine"), Column("batches")]
    rows = [
        [
            text(each["a"]),
            text(each["b"]),
            text(each["group"]),
            Cell(short(each["cosine"]), each["cosine"], _bounds(each)),
            Cell(number(each.get("batches")), each.get("batches")),
        ]
        for each in found
    ]
    return Table("Gradients of two steps", columns, rows)


def _time(found: Sequence[Diagnosis]) -> Table:
    columns = [*_named("part"), Column("ms a step"), Column("share, %")]
    rows = [
        [
            text(part["part"]),
            Cell(number(part["seconds"], 2, 1e-3), part["seconds"]),
            Cell(number(part["share"], 1, 1e-2), part["share"]),
        ]
        for part in found
    ]
    return Table("Time of a training step", columns, rows)


def _bounds(found: Diagnosis) -> str:
    if found.get("low") is None:
        return ""
    return f"[{short(found['low'])}, {short(found['high'])}]"
