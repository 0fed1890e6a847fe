"""The tables of a benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from funnelcast.benchmarks.markdown import figure, share_of_oracle_gain
from funnelcast.experiments.formatting import NONE, listing, mean_and_std_text, number, p_text, repeats, short, signed
from funnelcast.reports.conclusion import ALPHA, Best, best_of, outputs_of
from funnelcast.reports.table import Cell, Column, Table, text

Results = Mapping[str, Any]
QUALITY = {
    "log_loss": ("log-loss", 5, False),
    "normalised_entropy": ("norm. entropy", 4, False),
    "calibration_error": ("cal. error", 5, False),
    "observed_over_predicted": ("obs / pred", 2, True),
}
COSTS = {
    "parameters": ("parameters", 0, 1),
    "epochs": ("epochs", 1, 1),
    "rows_per_s": ("training, rows/s", 0, 1),
    "training_seconds": ("training, s", 1, 1),
    "seconds": ("a run, s", 1, 1),
    "peak_bytes": ("peak MB", 0, 1e6),
}


def main_table(results: Results) -> Table:
    """AUCs with gains over the reference."""
    models, base, outputs = results["models"], results["reference"], outputs_of(results)
    bests = {output: best_of(results, output) for output in outputs}
    columns = [Column("model", is_text=True, falls=False)]
    for output in outputs:
        columns += [Column("AUC", output), Column("gain", output), Column("p", output, falls=False)]
    rows = [
        [text(name), *(cell for o in outputs for cell in _aucs(name, model, o, bests[o], name == base))]
        for name, model in models.items()
    ]
    note = (
        f"AUC: mean ± standard deviation over {repeats(results)}; bold: the highest and those not "
        "significantly different from it. "
        f"Gain: mean AUC minus that of {base}, with the 95 % interval of the {truth_of(results)}; ▲ ahead, ▼ behind "
        "with p < .05. p: of no gain, corrected by Holm for the number of models."
    )
    return Table("AUC and gains", columns, rows, note)


def truth_of(results: Results) -> str:
    """What the intervals of gains are of."""
    found: str = results["truth"]["rows_and_seeds" if results.get("splits") is None else "splits"]
    return found


def _aucs(name: str, model: Results, output: str, best: Best | None, is_base: bool) -> Iterator[Cell]:
    found = figure(model, output, "auc")
    level = best is not None and found is not None and found["mean"] is not None and not best.beats(name)
    yield Cell(mean_and_std_text(found), None if found is None else found["mean"], is_strong=level)
    gain = model["gains"].get(output)
    if is_base:
        yield Cell("reference", 0.0)
        yield Cell("", None)
    elif gain is None or gain["estimate"] is None:
        yield Cell(NONE)
        yield Cell(NONE)
    else:
        yield gain_cell(gain)
        yield Cell(p_text(gain["p_adjusted"]), gain["p_adjusted"])


def gain_cell(gain: Results) -> Cell:
    """With its interval below it, and a mark where it is significant."""
    bounds = "" if gain["low"] is None else f"[{signed(gain['low'])}, {signed(gain['high'])}]"
    is_significant = gain["p_adjusted"] is not None and gain["p_adjusted"] < ALPHA
    mark = ("▲ " if gain["estimate"] > 0 else "▼ ") if is_significant else ""
    return Cell(mark + signed(gain["estimate"]), gain["estimate"], bounds)


def quality_table(results: Results) -> Table:
    """What AUC does not see: how good the probabilities are."""
    outputs = outputs_of(results)
    columns = [Column("model", is_text=True, falls=False)]
    columns += [Column(title, output, falls=falls) for output in outputs for title, _, falls in QUALITY.values()]
    rows = [
        [text(name), *(_mean(figure(model, o, key), d) for o in outputs for key, (_, d, _) in QUALITY.items())]
        for name, model in results["models"].items()
    ]
    note = (
        f"Mean ± standard deviation over {repeats(results)}. Log-loss in nats a row. Normalised entropy: log-loss over "
        "that of the rate alone; 1 or more is of no use. Calibration error: mean distance of predicted and observed "
        "rates over 20 bins of equal mass. Observed over predicted: 1 is right in the mean, above 1 predictions are "
        "too low."
    )
    return Table("Probabilities", columns, rows, note)


def _mean(found: Results | None, digits: int) -> Cell:
    if found is None:
        return Cell(NONE)
    return Cell(
        short(found["mean"], digits), found["mean"], "" if found["std"] is None else f"± {short(found['std'], digits)}"
    )


def oracle_table(results: Results) -> Table | None:
    """How much of what can be known each model knows, where a generator wrote the true probabilities."""
    truth, outputs = results.get("true_model"), outputs_of(results)
    if not truth:
        return None
    columns = [Column("model", is_text=True, falls=False), *(Column(output) for output in outputs)]
    rows = [
        [
            text(name),
            *(Cell(short(share, 3), share) for share in (share_of_oracle_gain(model, o, truth) for o in outputs)),
        ]
        for name, model in results["models"].items()
    ]
    highest = listing([f"{short(truth[output]['auc']['estimate'])} of {output}" for output in outputs])
    note = f"(mean AUC − .5) over that of the true probabilities, AUC {highest}: 1 is all that these rows can show."
    return Table("Share of the oracle's AUC gain", columns, rows, note)


def sharing_table(results: Results) -> Table | None:
    """Gains over networks that share nothing, where there are any."""
    control, outputs = results.get("control"), outputs_of(results)
    if not control or not control["gains"] or control["model"] == results["reference"]:
        return None
    columns = [Column("model", is_text=True, falls=False), *(Column(output) for output in outputs)]
    rows = [
        [text(name), *(gain_cell(gains[o]) if gains[o]["estimate"] is not None else Cell(NONE) for o in outputs)]
        for name, gains in control["gains"].items()
    ]
    note = f"AUC minus that of {control['model']}, whose steps share nothing; ▲ ▼ and intervals as above."
    return Table("What sharing brings", columns, rows, note)


def cost_table(results: Results) -> Table:
    """What each model takes."""
    columns = [Column("model", is_text=True, falls=False), Column("seeds")]
    columns += [Column(title, falls=key == "rows_per_s") for key, (title, _, _) in COSTS.items()]
    rows = []
    for name, model in results["models"].items():
        means = {key: model["cost"][key]["mean"] if model["cost"] else None for key in COSTS}
        seeds = len(model["seeds"])
        runs = [Cell(number(means[key], digits, scale), means[key]) for key, (_, digits, scale) in COSTS.items()]
        rows.append([text(name), Cell(str(seeds), seeds), *runs])
    note = (
        f"Means over {repeats(results)}, on the machine of this run; a run trains, picks its epoch on dev rows and "
        "scores test rows. Boosters have no epochs."
    )
    return Table("Costs", columns, rows, note)


def failed_table(results: Results) -> Table | None:
    """Runs that are in no figure, and why."""
    columns = [Column("model", is_text=True, falls=False), Column("seed", falls=False), Column("why", is_text=True)]
    rows: list[Sequence[Cell]] = [
        [text(name), Cell(str(seed), float(seed)), text(why.strip().splitlines()[-1] if why.strip() else "unknown")]
        for name, model in results["models"].items()
        for seed, why in model["failed"].items()
    ]
    return Table("Failed runs", columns, rows, "The same command tries them again.") if rows else None
