"""The tables of one training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from funnelcast.experiments.formatting import number, short
from funnelcast.reports.table import Cell, Column, Table, text


def metrics_table(part: str, outputs: Mapping[str, Any]) -> Table:
    """Every figure of a part."""
    labels = ("rows", "positives", "AUC", "log-loss", "norm. entropy", "cal. error", "obs / pred")
    columns = [Column("output", is_text=True, falls=False), *map(Column, labels)]
    rows: list[Sequence[Cell]] = []
    for name, found in outputs.items():
        auc, cells = found["auc"], [Cell(number(found[key]), found[key]) for key in ("rows", "positives")]
        bounds = auc["note"] if auc["low"] is None else f"[{short(auc['low'])}, {short(auc['high'])}]"
        cells.append(Cell(short(auc["estimate"]), auc["estimate"], bounds))
        keys = {"log_loss": 5, "normalised_entropy": 4, "calibration_error": 5, "observed_over_predicted": 2}
        rows.append(
            [text(name), *cells, *(Cell(short(found[key], digits), found[key]) for key, digits in keys.items())]
        )
    note = (
        "AUC with its 95 % interval (DeLong) for other rows of this distribution, but not other seeds. "
        "Log-loss in nats a row; normalised entropy 1 or more is no better than the rate alone; observed over "
        "predicted above 1: predictions are too low."
    )
    return Table(f"{part} rows", columns, rows, note)


def baselines_table(part: str, outputs: Mapping[str, Any]) -> Table | None:
    """The model and what is measured beside it on a part; none where nothing is."""
    known = {name: found for name, found in outputs.items() if found.get("baselines")}
    columns = [Column("", is_text=True, falls=False)]
    columns += [Column(label, name) for name in known for label in ("AUC", "log-loss")]
    baselines = list(next(iter(known.values()))["baselines"]["figures"]) if known else []
    rows: list[Sequence[Cell]] = [[text("the model"), *(cell for m in known.values() for cell in _two(m))]]
    for baseline in baselines:
        own = [found["baselines"]["figures"][baseline] for found in known.values()]
        rows.append([text(baseline), *(cell for metrics in own for cell in _two(metrics))])
    note = (
        "Simple models fitted in seconds on the same training rows. The best column of a step is chosen on training "
        "rows, by the rates of other rows; sum and regression read the rates of all columns."
    )
    return Table(f"Baselines, {part} rows", columns, rows, note) if known else None


def _two(metrics: Mapping[str, Any]) -> tuple[Cell, Cell]:
    auc, loss = metrics["auc"]["estimate"], metrics["log_loss"]
    return Cell(short(auc), auc, metrics.get("column") or ""), Cell(short(loss, 5), loss)


def boosters_table(lines: Sequence[Mapping[str, Any]]) -> Table | None:
    """What a log says of each booster; none where it has none."""
    labels = ("rows", "trees", "log-loss, dev", "seconds", "rows/s")
    columns = [Column("step", is_text=True, falls=False), *map(Column, labels)]
    rows: list[Sequence[Cell]] = []
    for line in lines:
        loss = (line.get("dev") or {}).get("log_loss")
        rows.append(
            [
                text(line["step"]),
                Cell(number(line.get("rows")), line.get("rows")),
                Cell(number(line.get("best_iteration")), line.get("best_iteration")),
                Cell(short(loss, 5), loss),
                Cell(number(line.get("seconds"), 1), line.get("seconds")),
                Cell(number(line.get("rows_per_s")), line.get("rows_per_s")),
            ]
        )
    return Table("Boosters", columns, rows) if rows else None
