"""The search over MAN's inner step size α, on dev rows: what adapting gains, and how much of the gradient it makes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from harness.show import show
from proofs.ablation import ROWS, ablation_table
from proofs.compared import EXPERIMENTS, OUTPUTS, kept, train
from proofs.simulators.campaigns import Differences

SIZES = (2e-4, 1e-3, 1e-2, 1e-1)
"""From 2e-4 to 1e-1, as PAPER.md decides; the paper has none."""


def step_size(small: bool = False, rows: int = ROWS, folder: Path | None = None) -> bool:
    """MAN meta-trained with inner steps of 2e-4 … 1e-1, dev rows of the log whose campaigns differ; figures only."""
    with kept(folder) as out:
        table = ablation_table(Differences(), out / "campaigns-differ", min(rows, 12_000) if small else rows)
        found = []
        for size in SIZES[-1:] if small else SIZES:
            run = train(_experiment(size, out), table, out / f"step-{size:g}", seeds=1)
            lines = [json.loads(line) for line in (run.bundles[0].parent / "log.jsonl").read_text().splitlines()]
            found.append((f"{size:g}", *_text(lines)))
        head = ("inner step", "epochs", *(f"dev AUC, {name}" for name in OUTPUTS), "gain of click", "of conversion")
        show((*head, "of the gradient"), found)
    return True


def _experiment(size: float, out: Path) -> Path:
    """The first stage of Table 2's MAN, with another step."""
    text = (EXPERIMENTS / "ablation" / "man.toml").read_text()
    first = text[: text.index("[[stages]]", text.index("[[stages]]") + 1)]
    path = out / f"step-{size:g}.toml"
    path.write_text(re.sub(r"learning_rate = [\d.e-]+}", f"learning_rate = {size!r}}}", first))
    return path


def _text(lines: list[dict[str, Any]]) -> tuple[str, ...]:
    """Of the best epoch."""
    best = [line for line in lines if line["is_best"]][-1]
    aucs, meta = (best["dev"][name]["auc"]["estimate"] for name in OUTPUTS), best["meta"]
    gains = (f"{meta['gain'][step]:+.3%}" for step in ("click", "conversion"))
    return (f"{len(lines)}", *(f"{auc:.4f}" for auc in aucs), *gains, f"{meta['through_inner_step']:.1%}")
