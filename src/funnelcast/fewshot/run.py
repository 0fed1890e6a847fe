"""The few-shot protocol on tasks that a prepared table keeps out of training, and the files that it leaves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from funnelcast.data.files import check_free, new_folder, write_atomic
from funnelcast.data.progress import Progress, silent
from funnelcast.data.table import Table
from funnelcast.errors import DataError
from funnelcast.evaluation.auc import Interval
from funnelcast.experiments.evaluate import require_same_ids
from funnelcast.experiments.groups import group_by
from funnelcast.fewshot.learning_curves import draw_curves
from funnelcast.fewshot.methods import Method
from funnelcast.fewshot.protocol import SIZES, Measured, measure
from funnelcast.fewshot.report import gains, report
from funnelcast.fewshot.standard_methods import PLAIN, methods_of, standard_methods
from funnelcast.fewshot.tasks import TaskOutput, unseen_tasks
from funnelcast.runtime.threads import cores
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.predictor import Predictor, bundle_of
from funnelcast.training.adapting import Adapting

QUERY = 100
"""Rows that count, which each task has at least beyond its support."""
STEM = "few-shot"
"""How the files in the folder are called."""


def few_shot(
    bundle: Bundle | Predictor | Path | str,
    table: Table | Path | str,
    out: Path | str,
    *,
    by: str,
    meta: Bundle | Predictor | Path | str | None = None,
    output: str | None = None,
    sizes: Sequence[int] = SIZES,
    query: int = QUERY,
    config: Adapting | None = None,
    replace: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure what labelled rows are worth of campaigns, shops, … that training has not seen.

    The values of the kept column `by` that test rows alone have are the tasks. `output`: such as
    conversion_given_click, the funnel's first by default; `sizes` and `query` >= 1: rows that count for it. `meta`:
    another network on the same table, trained by Algorithm 1, to compare. Returns the figures, which are written into
    the folder `out` as few-shot.json, with curves of the log-loss that is saved as few-shot.svg and .png. Raises
    FunnelcastError.
    """
    table, out, sizes = table if isinstance(table, Table) else Table.open(table), Path(out), sorted(set(sizes))
    if not sizes or sizes[0] < 0 or sizes[-1] == 0 or query < 1:
        raise DataError(
            f"sizes {sizes} with {query} query rows tell nothing; give sizes above 0, and 1 query row or more"
        )
    check_free(out, replace=replace, mark=f"{STEM}.json")
    target = TaskOutput.of(table.schema.funnel, output or table.schema.funnel.outputs[0].name)
    plain, meta = bundle_of(bundle), None if meta is None else bundle_of(meta)
    for each in (plain, meta) if meta else (plain,):
        require_same_ids(each.encoder, table)
    tasks = unseen_tasks(table, by, target, sizes[-1], query)
    methods, over = _methods(plain, meta, table, by, target, config)
    measured = measure(tasks, methods, target, sizes, cores(), progress)
    with new_folder(out, replace=replace, mark=f"{STEM}.json") as partial:
        write(measured, partial / STEM, rows=target.unit(table.schema.funnel), over=over)
    return _results(measured, target.unit(table.schema.funnel), over)


def _methods(
    plain: Bundle, meta: Bundle | None, table: Table, by: str, target: TaskOutput, config: Adapting | None
) -> tuple[dict[str, Method], str]:
    """And the one that the others are compared with. One network alone may be trained either way."""
    rows = table.part("train")
    groups = group_by(table, rows, table.side("train"), by)
    keys = groups.keys[groups.is_known]
    if len(keys) < len(rows):
        rows = rows.take(np.flatnonzero(groups.is_known))
    if meta is not None:
        return standard_methods(meta, plain, target, rows, keys, config), PLAIN
    alone = methods_of(plain, target, rows, keys, config)
    return {_alone(name): method for name, method in alone.items()}, _alone(PLAIN)


def _results(measured: Measured, rows: str, over: str) -> dict[str, Any]:
    return {"over": over, "sizes_of": rows, **report(measured)}


def _alone(name: str) -> str:
    return name.removeprefix("plain, ")


def write(
    measured: Measured, stem: Path, *, rows: str, over: str, ceiling: str | None = None
) -> dict[str, list[Interval]]:
    """Write `stem`.json, .svg and .png; returns by method and size the gain over the one called `over`.

    `rows`: what sizes are of; `ceiling`: the method that nothing can be better than.
    """
    curves = {name: gains(measured, name, over) for name in measured.figures if name != over}
    write_atomic(stem.with_suffix(".json"), json.dumps(_results(measured, rows, over)).encode())
    title = f"{measured.output}: {len(measured.tasks)} tasks that no model has seen"
    draw_curves(curves, measured.sizes, stem, title=title, rows=rows, over=over, ceiling=ceiling)
    return curves
