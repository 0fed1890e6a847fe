"""Measuring a bundle on a part of a prepared table, beside what knows nothing and what knows the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from funnelcast.data.columns import Columns
from funnelcast.data.encoder import Encoder
from funnelcast.data.progress import Progress, silent
from funnelcast.data.table import Table
from funnelcast.errors import ComparisonError
from funnelcast.evaluation.distribution import distribution
from funnelcast.evaluation.funnel import measure_funnel
from funnelcast.evaluation.health import find_collapsed
from funnelcast.evaluation.score import Scorer, score
from funnelcast.experiments.experiment import Experiment
from funnelcast.experiments.groups import group_by, measure_groups
from funnelcast.experiments.statistics import reading_as_in_training
from funnelcast.schema.funnel import Funnel
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.predictor import Predictor, bundle_of, probabilities

FLATTERED = (
    "training rows read target statistics that count their own labels, so these figures flatter the model; judge it on "
    "dev or test, or evaluate a network on the table that it was trained on, without a warm start"
)


def evaluate(
    bundle: Bundle | Predictor | Path | str,
    table: Table | Path | str,
    part: str = "test",
    by: str | None = None,
    *,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Metrics by output name, under "outputs"; the same for the constant predictor, under "constant", and where the
    table knows the truth for the true model, under "truth"; AUCs by the values of a kept column or an id feature, under
    "groups". `part`: "train", "dev" or "test". An output that has collapsed (`find_collapsed`) says so in its
    "warnings"; "predicted" has the distribution of its probabilities over all rows.

    Rows count by their weight where the schema has one. A figure is None where it is undefined: an AUC with one class,
    any figure without rows. Rows of the train part read target statistics as in training, which do not count their own
    labels; where these are not known any more, "note" says that the figures flatter the model. Raises BundleError,
    TableError for a part or column that is not there, ComparisonError when the table's funnel or ids are not the
    bundle's.
    """
    table = table if isinstance(table, Table) else Table.open(table)
    return measure_part(bundle_of(bundle), table, part, by, progress=progress).result


class Measured(NamedTuple):
    """What `evaluate` returns, and the reach that it is of."""

    result: dict[str, Any]
    log_p: NDArray[np.float32]  # (N, T)
    log_q: NDArray[np.float32]


def measure_part(
    bundle: Bundle, table: Table, part: str, by: str | None = None, *, progress: Progress = silent
) -> Measured:
    """As `evaluate`."""
    require_same_ids(bundle.encoder, table)
    rows, side, funnel = table.part(part), table.side(part), table.schema.funnel
    assert rows.labels is not None
    groups = group_by(table, rows, side, by) if by is not None else None
    read: tuple[Scorer, Columns] | None = bundle.model, rows
    if part == "train":
        read = reading_as_in_training(Experiment.from_dict(bundle.experiment), table, bundle.model, rows)
    model, scored = read or (bundle.model, rows)
    log_p, log_q = score(
        model,
        scored,
        bundle.keep_negatives,
        lambda done: progress("evaluate", done, len(rows), "rows"),
        calibration=bundle.calibration,
    )
    measured = measure_funnel(funnel, rows.labels, log_p, log_q, rows.weight)
    collapsed = find_collapsed(funnel, rows.labels, log_p, log_q, rows.weight, bundle.rates, measured)
    said = {finding.output: [finding.text] for finding in collapsed}
    constant = np.broadcast_to(np.array(bundle.rates), log_p.shape)
    outputs: dict[str, Any] = {n: {**m.as_dict(), "warnings": said.get(n, [])} for n, m in measured.outputs.items()}
    predicted = probabilities(funnel, log_p)
    for output in funnel.outputs:
        outputs[output.name]["predicted"] = distribution(predicted[output.column])
    result = {
        "part": part,
        "rows": len(rows),
        "protocol": table.protocol,
        "outputs": outputs,
        "ratio_cut": measured.cut,
        "constant": _of_probabilities(funnel, rows, constant),
    }
    if read is None:
        result["note"] = FLATTERED
    truth = _truth(funnel, side)
    if truth is not None:
        result["truth"] = _of_probabilities(funnel, rows, truth)
    if groups is not None:
        result["groups"] = measure_groups(funnel, rows, log_p, groups)
    return Measured(result, log_p, log_q)


def require_same_ids(encoder: Encoder, table: Table) -> None:
    """Steps, labels, weight and scalings must be the same; the bundle's ids may go on after the table's, as they do
    after a warm start. Raises ComparisonError.
    """
    for what in ("funnel", "weight"):
        own, other = (getattr(each.schema, what) for each in (encoder, table.encoder))
        if own != other:
            raise ComparisonError(
                f"{table.folder} has another {what} than the bundle: {other} for {own}; prepare the log with the "
                "schema that the bundle was trained with"
            )
    for name, vocabulary in table.encoder.vocabularies.items():
        known = encoder.vocabularies.get(name)
        if known is None or not known.values[: len(vocabulary.values)].equals(vocabulary.values):
            raise ComparisonError(
                f"{table.folder} gives other ids to {name!r} than the bundle's own table; evaluate on that one, or "
                "score the raw rows with: funnelcast predict"
            )
    if encoder.numbers != table.encoder.numbers:
        raise ComparisonError(f"{table.folder} scales its numbers in another way than the bundle's own table")


def _of_probabilities(funnel: Funnel, rows: Columns, p: NDArray[np.float64]) -> dict[str, Any]:
    """Metrics of probabilities (N, T) of having reached each step."""
    p = np.clip(p, 1e-12, 1 - 1e-12)
    assert rows.labels is not None
    measured = measure_funnel(funnel, rows.labels, np.log(p), np.log1p(-p), rows.weight)
    return {name: m.as_dict() for name, m in measured.outputs.items()}


def true_metrics(table: Table, part: str = "test") -> dict[str, Any]:
    """Metrics by output of the true probabilities, where a generator wrote them beside the log; else nothing."""
    truth = _truth(table.schema.funnel, table.side(part))
    return _of_probabilities(table.schema.funnel, table.part(part), truth) if truth is not None else {}


def _truth(funnel: Funnel, side: pa.Table) -> NDArray[np.float64] | None:
    """True probabilities (N, T) of having reached each step, where a generator wrote them beside the log."""
    reached: list[NDArray[np.float64]] = []
    for t, (step, parent) in enumerate(zip(funnel.names, funnel.parents, strict=True)):
        column = f"true_p_{step}" + (f"_given_{funnel.names[parent]}" if parent >= 0 else "")
        if column not in side.column_names:
            return None
        own = side[column].to_numpy()
        reached.append(own if parent < 0 else own * reached[funnel.parents[t]])
    return np.stack(reached, 1)
