"""Selection bias: pCVR of rows that were not clicked, against the truth, by the loss of conversions."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from funnelcast.data.table import Table
from funnelcast.evaluation.auc import auc
from funnelcast.evaluation.score import score
from funnelcast.experiments.presets import PRESETS
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.predictor import probabilities
from harness.show import show
from proofs.compared import EXPERIMENTS, generated_table, kept, train
from proofs.material import toml

NAMES = ("lightgbm", "single-task", "shared-bottom", "omoe", "mmoe", "esmm", "ple", "aitm", "man")
"""Files in experiments/aliccp; trained on all rows and on clicks."""
EVERY_LOSS = ("recommended", "man")
"""A preset, and one of the files; trained with every loss."""
LOSSES: dict[str, dict[str, dict[str, Any]]] = {
    "all rows": {},
    "clicks": {"model": {"loss_space": "given_parent"}},
    "clicks, ipw": {"model": {"loss_space": "given_parent"}, "loss": {"correction": "ipw"}},
    "clicks, doubly robust": {"model": {"loss_space": "given_parent"}, "loss": {"correction": "doubly_robust"}},
    "both": {"model": {"loss_space": "both"}},
    "both, clicks by .1": {"model": {"loss_space": "both"}, "loss": {"given_parent_weight": 0.1}},
    "both, ipw": {"model": {"loss_space": "both"}, "loss": {"correction": "ipw"}},
    "both, doubly robust": {"model": {"loss_space": "both"}, "loss": {"correction": "doubly_robust"}},
}
"""Settings that are changed, by what an experiment is then trained on."""
PCVR = "p_conversion_given_click"
SPACES = ("clicked", "unclicked", "all")
ROWS, SEEDS = 400_000, 3


def bias(small: bool = False, rows: int = ROWS, folder: Path | None = None) -> bool:
    """Error of pCVR over clicked, unclicked and all rows, by what it is trained on, 3 seeds; figures only."""
    seeds, names = (1, ("esmm",)) if small else (SEEDS, (*NAMES[:-1], *EVERY_LOSS))
    with kept(folder) as out:
        table = generated_table(out, min(rows, 20_000) if small else rows)
        found = []
        for name in names:
            for space, file in _experiments(name, out):
                run = train(file, table, out / file.stem, seeds)
                found.append((name, space, [_errors(bundle, table) for bundle in run.bundles]))
        for figure, digits in (("excess log-loss", 5), ("observed / predicted", 3), ("AUC", 4)):
            head = (f"{figure} of pCVR against the truth", "trained on", *SPACES)
            show(head, [(name, space, *_mean_and_std(runs, figure, digits)) for name, space, runs in found])
    return True


def _experiments(name: str, out: Path) -> Iterator[tuple[str, Path]]:
    """An experiment with each of its losses of conversions."""
    base = PRESETS[name] if name == "recommended" else EXPERIMENTS / "aliccp" / f"{name}.toml"
    settings = tomllib.loads(base.read_text())
    for trained_on, changes in LOSSES.items():
        if name not in EVERY_LOSS and trained_on not in ("all rows", "clicks"):
            continue
        changed = settings | {part: settings.get(part, {}) | own for part, own in changes.items()}
        if "model" in changes:
            changed["model"].pop("head", None)
        file = out / f"{'-'.join([name, *trained_on.replace(',', '').split()])}.toml"
        file.write_text(toml(changed))
        yield trained_on, file


def _errors(bundle: Path, table: Path) -> dict[str, dict[str, float]]:
    """By space and figure, of pCVR on the test rows."""
    opened, loaded = Table.open(table), Bundle.load(bundle)
    rows = opened.part("test")
    log_p, _ = score(loaded.model, rows)
    p = probabilities(opened.schema.funnel, log_p)[PCVR].clip(1e-9, 1 - 1e-9)
    truth = opened.side("test")[f"true_{PCVR}"].to_numpy()
    assert rows.labels is not None
    clicked = rows.labels[:, 0] == 1
    spaces = {"clicked": clicked, "unclicked": ~clicked, "all": np.ones_like(clicked)}
    return {space: against_truth(p[chosen], truth[chosen]) for space, chosen in spaces.items()}


def against_truth(p: NDArray[np.float64], truth: NDArray[np.float64]) -> dict[str, float]:
    """Excess of the expected log-loss over that of the truth, in nats a row; expected over predicted rate; expected
    AUC, of rows that count as positive by their true probability and as negative by the rest."""
    loss = -(truth * np.log(p) + (1 - truth) * np.log1p(-p))
    least = -(truth * np.log(truth) + (1 - truth) * np.log1p(-truth))
    labels = np.repeat([1, 0], len(p)).astype(np.uint8)
    return {
        "excess log-loss": float(np.mean(loss - least)),
        "observed / predicted": float(truth.sum() / p.sum()),
        "AUC": auc(labels, np.concatenate([p, p]), np.concatenate([truth, 1 - truth])),
    }


def _mean_and_std(runs: list[dict[str, Any]], figure: str, digits: int) -> list[str]:
    cells = []
    for space in SPACES:
        values = [run[space][figure] for run in runs]
        deviation = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
        cells.append(f"{mean(values):.{digits}f}{deviation}")
    return cells
