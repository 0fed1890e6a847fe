"""Calibrated probabilities on rows that nothing was fitted to: real funnels, Census-Income and a generated log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from funnelcast.data.table import Table
from funnelcast.evaluation.auc import Interval
from funnelcast.evaluation.funnel import conditional, sample_space
from funnelcast.evaluation.group_calibration import group_calibration
from funnelcast.evaluation.metrics import observed_over_predicted
from funnelcast.evaluation.paired import loss_difference
from funnelcast.evaluation.rows import Array
from funnelcast.evaluation.score import score
from funnelcast.experiments.groups import group_by
from funnelcast.schema.funnel import Output
from funnelcast.serving.bundle import Bundle
from harness.cost import cost
from harness.show import show
from proofs.compared import generated_table, kept, train

LEAST = 500
"""Positives among the test rows, for observed over predicted to be judged."""
RATIO, NOISE, FLOORS, SLACK, VALUES = 0.03, 3.0, 2.0, 1.01, 10
"""How far observed over predicted may be from 1, or so many standard errors of it; the largest field-ECE over its noise
floor, or so much more than before; of id features with so many values at least, as few values do by chance."""
FIGURES = (
    "log-loss, after − before [95 %]",
    "observed / predicted: before",
    "after",
    "worst field-ECE / floor: before",
)


def calibration(small: bool = False, rows: int = 300_000, folder: Path | None = None) -> bool:
    """`recommended` on oulad, Census-Income, a generated log, tables of FOLDER/tables: calibration harms nothing."""
    seeds = 1 if small else 2
    with kept(folder) as out:
        tables = {"oulad": _shipped(out, "oulad")}
        if not small:
            tables |= {"generated": generated_table(out / "generated", rows), "census": _shipped(out, "census-income")}
            given = sorted(path.parent for path in (out / "tables").glob("*/manifest.json"))
            tables |= {table.name: table for table in given}
        found = [
            (name, seed, each)
            for name, table in tables.items()
            for seed, bundle in enumerate(train(Path("recommended"), table, out / "runs" / name, seeds).bundles)
            for each in measured(Bundle.load(bundle), Table.open(table))
        ]
    show(
        ("table", "seed", "output", "positives", "map", *FIGURES, "after"),
        [(name, seed, *each["shown"]) for name, seed, each in found],
    )
    return all(each["holds"] for _, _, each in found)


def _shipped(out: Path, name: str) -> Path:
    table = out / "sets" / name
    if not (table / "manifest.json").is_file():
        cost("datasets", name, table)
    return table


def measured(bundle: Bundle, table: Table) -> list[dict[str, Any]]:
    """By output, of the test rows with and without the calibration of a bundle."""
    rows, own = table.part("test"), bundle.calibration
    before = score(bundle.model, rows, bundle.keep_negatives)
    after = score(bundle.model, rows, bundle.keep_negatives, calibration=own)
    assert rows.labels is not None
    found = []
    for output in table.schema.funnel.outputs:
        where = sample_space(output, rows.labels)
        y, w = rows.labels[where, output.step], None if rows.weight is None else rows.weight[where]
        p, q = (_logs(each, output, where) for each in (before, after))
        change = loss_difference(y, q, p, w)
        ratios = [observed_over_predicted(y, np.exp(each[0]), w) for each in (p, q)]
        noise = 1 / np.sqrt(max(1, int(y.sum())))
        floors = [_worst(table, y, np.exp(each[0]), where, w) for each in (p, q)]
        kind = "" if own is None or output.given != _parent(table, output) else own.steps[output.step].kind
        is_right = y.sum() < LEAST or abs(ratios[1] - 1) <= max(RATIO, NOISE * noise)
        holds = not change.low > 0 and is_right and floors[1] <= max(FLOORS, SLACK * floors[0])
        shown = [f"{value:.3f}" for value in ratios] + [f"{value:.2f}" for value in floors]
        found.append({"shown": (output.name, int(y.sum()), kind, _text(change), *shown), "holds": holds})
    return found


def _parent(table: Table, output: Output) -> int | None:
    parent = table.schema.funnel.parents[output.step]
    return None if parent < 0 else parent


def _logs(reach: tuple[Array, Array], output: Output, where: Array) -> tuple[Array, Array]:
    """Log p and log q (N,) of an output's rows."""
    log_p, log_q = reach
    if output.given is None:
        return log_p[where, output.step], log_q[where, output.step]
    own, rest, _ = conditional(log_p[where, output.step], log_p[where, output.given])
    return own, rest


def _worst(table: Table, y: Array, p: Array, where: Array, w: Array | None) -> float:
    """The largest ratio of field-ECE to its floor over the id features of many values."""
    rows, side, ratios = table.part("test"), table.side("test"), [0.0]
    for name, _ in table.encoder.inputs.fields:
        keys = group_by(table, rows, side, name).keys[where]
        own = group_calibration(y, p, keys, w)
        if own.field_ece_floor > 0 and len(own.observed_over_predicted) >= VALUES:
            ratios.append(own.field_ece / own.field_ece_floor)
    return max(ratios)


def _text(change: Interval) -> str:
    return f"{change.estimate:+.5f} [{change.low:+.5f}, {change.high:+.5f}]"
