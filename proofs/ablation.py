"""Table 2: what meta-learning and attention do, where campaigns differ and where they are alike."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

from funnelcast.experiments.evaluate import evaluate
from harness.show import show
from proofs.compared import EXPERIMENTS, OUTPUTS, Trained, auc_differences, kept, mean_and_std, predictions, train
from proofs.simulators.campaigns import ALIKE, CampaignSimulator, Differences

TABLES = (
    ("without-meta", "without-attention", "without-meta-attention", "three-epochs", "man"),
    ("without-embedding", "man"),  # which takes as long as all others together
)
"""Files in experiments/ablation. The last one is what the others are compared with."""
PROCESSES = {"campaigns differ": Differences(), "campaigns are alike": ALIKE}
ROWS, SEEDS = 300_000, 5


def ablation(small: bool = False, rows: int = ROWS, folder: Path | None = None) -> bool:
    """Table 2 on 300,000 rows whose campaigns differ, and on as many where they do not, 5 seeds; figures only."""
    seeds, tables = (1, (("without-meta", "man"),)) if small else (SEEDS, TABLES)
    with kept(folder) as out:
        for names, (what, differences) in product(tables, PROCESSES.items()):
            place = out / what.replace(" ", "-")
            table = ablation_table(differences, place, min(rows, 4_000) if small else rows)
            runs = [train(EXPERIMENTS / "ablation" / f"{name}.toml", table, place / name, seeds) for name in names]
            _report(what, runs, table)
    return True


def ablation_table(differences: Differences, folder: Path, rows: int) -> Path:
    """Of so many training rows; made unless it is there."""
    table = folder / "table"
    if not (table / "manifest.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        CampaignSimulator(0, differences).write_table(table, rows, rows // 6, rows // 3)
    return table


def _report(what: str, runs: list[Trained], table: Path) -> None:
    found = {run.name: [evaluate(bundle, table)["outputs"] for bundle in run.bundles] for run in runs}
    for figure, digits in (("auc", 4), ("log_loss", 5)):
        head = (f"{what}: {figure.replace('_', '-')} on the test rows", *OUTPUTS)
        show(head, [(name, *_row(outputs, figure, digits)) for name, outputs in found.items()])
    *others, whole = [(run.name, predictions(run, table)) for run in runs]
    differences = [(name, *auc_differences(files, whole[1])) for name, files in others]
    show((f"{what}: AUC of {whole[0]} minus that of", *OUTPUTS), differences)
    gains = [(run.name, f"{run.epochs:.1f}", *_adapting(run)) for run in runs]
    show((f"{what}: cost, and the last meta epoch", "epochs", "gain of click", "of conversion", "through it"), gains)


def _row(outputs: list[dict[str, Any]], figure: str, digits: int) -> list[str]:
    values = {name: [each[name][figure] for each in outputs] for name in OUTPUTS}
    numbers = {name: [v["estimate"] if figure == "auc" else v for v in own] for name, own in values.items()}
    return [mean_and_std(own, digits) for own in numbers.values()]


def _adapting(run: Trained) -> tuple[str, ...]:
    """What the inner step gained in the last epoch that had one, in the mean over the seeds."""
    logs = [(bundle.parent / "log.jsonl").read_text().splitlines() for bundle in run.bundles]
    last = [[line for line in map(json.loads, log) if "meta" in line][-1:] for log in logs]
    metrics = [lines[0]["meta"] for lines in last if lines]
    if not metrics:
        return ("-", "-", "-")
    gains = [mean(each["gain"][step] for each in metrics) for step in ("click", "conversion")]
    return (*(f"{gain:+.2%}" for gain in gains), f"{mean(each['through_inner_step'] for each in metrics):.1%}")
