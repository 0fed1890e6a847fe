"""Published figures next to ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from funnelcast.benchmarks.markdown import figure
from funnelcast.experiments.formatting import mean_and_std_text, short
from funnelcast.experiments.published import FILES, Figure, Published
from funnelcast.reports.table import Cell, Column, Table, text


def published_of(results: Mapping[str, Any]) -> Published | None:
    """By what results say of it; else by the name of the protocol, if a source was measured by that."""
    if results.get("published"):
        return Published.of(results["published"])
    name = results["protocol"].get("name")
    every = (Published.of(file) for file in FILES)
    return next((each for each in every if any(name in source.same_as for source in each.sources)), None)


def published_table(results: Mapping[str, Any], published: Published) -> tuple[Table | None, list[str]]:
    """Every published figure of our models' outputs with ours, and why those with † are not comparable."""
    columns = [
        Column("model", is_text=True, falls=False),
        Column("output", is_text=True, falls=False),
        Column("ours"),
        Column("published"),
        Column("source", is_text=True, falls=False),
    ]
    rows, marked = list[Sequence[Cell]](), list[str]()
    for name, model in results["models"].items():
        for output in model["figures"]:
            own = figure(model, output, "auc")
            for each in published.figures_of(name, output):
                mark, why = _mark(each, published, results)
                marked += [why] if why and why not in marked else []
                ours = Cell(mean_and_std_text(own), None if own is None else own["mean"])
                source = text(f"{each.source.name}{'' if each.source.kind == 'paper' else ' (re-implementation)'}")
                rows.append([text(name), text(output), ours, _figure(each, mark), source])
    notes = [f"{s.name}: {note}" for s in published.sources for note in (*s.broken_gains(), *s.notes)]
    return (Table("Beside what is published", columns, rows) if rows else None), [*marked, *notes]


def _mark(each: Figure, published: Published, results: Mapping[str, Any]) -> tuple[str, str]:
    source = each.source
    if published.is_comparable(source, results["protocol"].get("name", ""), results["test_rows"]):
        return "", ""
    why = f"another protocol or other rows than ours: {source.protocol} ({source.place})"
    return " †", f"† {source.name}: {why}"


def _figure(each: Figure, mark: str) -> Cell:
    std = "" if each.std is None else f" ± {short(each.std)}"
    return Cell(f"{short(each.value)}{std}{mark}", each.value)
