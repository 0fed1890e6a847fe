"""`funnelcast evaluate`: a bundle on a part of a prepared table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from funnelcast.cli.console import AsJson, number, out, progress_bars, show, show_json

LARGEST = 10
"""Groups that are shown of each output; JSON has all."""


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="A trained bundle.")],
    table: Annotated[Path, typer.Argument(help="The prepared table.")],
    part: Annotated[str, typer.Option(help="train, dev or test.")] = "test",
    by: Annotated[str | None, typer.Option(help="A kept column or id feature: AUC, calibration per group.")] = None,
    as_json: AsJson = False,
) -> None:
    """Exact AUC with 95 % intervals, log-loss and calibration, per step over all rows and given the step before.

    Example: [bold]funnelcast evaluate runs/man/bundle table --by campaign[/]
    """
    from funnelcast.experiments.evaluate import evaluate as measure

    with progress_bars(as_json) as progress:
        result = measure(bundle, table, part, by, progress=progress)
    if as_json:
        show_json(result)
    else:
        show_metrics(result)


def show_metrics(result: dict[str, Any]) -> None:
    """One table: the model beside the constant predictor and, where it is known, the true model."""
    truth = result.get("truth", {})
    rows = [(name, *_cells(m, result["constant"][name], truth.get(name))) for name, m in result["outputs"].items()]
    head: tuple[str, ...] = ("output", "AUC (95 %)", "log-loss", "constant", "cal.error", "obs/pred")
    head += ("true AUC",) if truth else ()
    show(rows, head, f"{result['part']} of {result['protocol']['name']} ({result['protocol']['fingerprint']})")
    for name, m in result["outputs"].items():
        out.print(
            f"  {name}: {m['positives']:,} of {m['rows']:,} rows reached it{_remarks(m, result['ratio_cut'], name)}"
        )
    show_warnings(result["outputs"])
    if "note" in result:
        out.print(f"  WARNING: {result['note']}")
    for name, found in result.get("groups", {}).items():
        _show_groups(name, found)


def show_warnings(outputs: dict[str, Any], where: str = "") -> None:
    """A line for each output that has collapsed."""
    for metrics in outputs.values():
        for text in metrics.get("warnings", ()):
            out.print(f"  WARNING: {where}{text}")


def _remarks(metrics: dict[str, Any], cut: dict[str, int], name: str) -> str:
    note = f" ({metrics['auc']['note']})" if metrics["auc"]["note"] else ""
    return note + (f"; p above that of the step before in {cut[name]:,} rows, cut to it" if cut.get(name) else "")


def _show_groups(name: str, found: dict[str, Any]) -> None:
    """GAUC, calibration over groups, and the largest groups of an output."""
    largest = sorted(found["by_group"], key=lambda group: -group["rows"])[:LARGEST]
    out.print(f"\n{name}: GAUC {number(found['gauc'])} over {found['usable_groups']} of {_groups(found['groups'])}")
    out.print(
        f"  field-ECE {number(found['field_ece'], 5)} (by chance alone {number(found['field_ece_floor'], 5)}), "
        f"field-RCE {number(found['field_rce'])} (by chance alone {number(found['field_rce_floor'])})"
    )
    unknown = [{"group": "(unknown, not in GAUC)", **found["unknown"]}] if found["unknown"] else []
    rows = [
        (g["group"], f"{g['rows']:,}", f"{g['positives']:,}", number(g["auc"]), number(g["observed_over_predicted"], 3))
        for g in [*largest, *unknown]
    ]
    head = "group" if len(largest) == found["groups"] else f"{LARGEST} largest groups"
    show(rows, (head, "rows", "positives", "AUC", "obs/pred"))


def _groups(count: int) -> str:
    return "1 group" if count == 1 else f"{count} groups"


def _cells(metrics: dict[str, Any], constant: dict[str, Any], truth: dict[str, Any] | None) -> list[str]:
    cells = [
        _auc(metrics["auc"]),
        number(metrics["log_loss"], 5),
        number(constant["log_loss"], 5),
        number(metrics["calibration_error"], 5),
        number(metrics["observed_over_predicted"], 3),
    ]
    return cells + ([number(truth["auc"]["estimate"])] if truth else [])


def _auc(auc: dict[str, Any]) -> str:
    if auc["low"] is None:
        return number(auc["estimate"])
    return f"{auc['estimate']:.4f} ({auc['low']:.3f}–{auc['high']:.3f})"
