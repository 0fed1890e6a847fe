"""Few-shot: campaigns that no model has seen, of a known process, predicted from 0 to 1,024 rows of each.

FOLDER/OUTPUT.json, .svg, .png   of the click and of the conversion given a click: figures of every task, and curves
FOLDER/alike-OUTPUT.json, …      the same where campaigns do not differ
FOLDER/census.json, …            income of people from states that were kept out; no bar
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from funnelcast.data.table import Table
from funnelcast.evaluation.auc import Interval
from funnelcast.experiments.groups import group_by
from funnelcast.fewshot.methods import Method
from funnelcast.fewshot.protocol import SIZES, Measured, measure
from funnelcast.fewshot.report import gains, measured_of
from funnelcast.fewshot.run import write
from funnelcast.fewshot.standard_methods import META, META_ADAPTED, OFFSET, PLAIN, standard_methods
from funnelcast.fewshot.tasks import TaskOutput
from funnelcast.serving.bundle import Bundle
from harness.show import show
from proofs.compared import EXPERIMENTS, kept, train
from proofs.few_shot_census import census_states
from proofs.simulators.campaign_tasks import CampaignTasks
from proofs.simulators.campaigns import ALIKE, CampaignSimulator, Differences
from proofs.simulators.exact_bayes import ExactBayes

CEILING = "exact Bayes"
UNITS = {"click": "impressions", "conversion_given_click": "clicks"}
"""What sizes are of, by output."""
BETTER = {"click": (64, 256, 1024), "conversion_given_click": (256, 1024)}
"""Sizes at which adapting must be better than not, by output."""
PROCESSES = {"": Differences(), "alike-": ALIKE}


class Rows(TypedDict, total=False):
    """Arguments of `write_table`."""

    train: int
    dev: int
    test: int
    campaigns: int


@dataclass(frozen=True)
class Share:
    """How much is done."""

    table: Rows
    tasks: int
    query: int
    sizes: tuple[int, ...]


FULL = Share({"train": 2_000_000, "dev": 60_000, "test": 60_000, "campaigns": 2000}, 200, 2000, SIZES)
SMALL = Share({"train": 6_000, "dev": 2_000, "test": 1_000, "campaigns": 20}, 4, 200, (0, 16))


def few_shot(small: bool = False, folder: Path | None = None) -> bool:
    """Meta-trained and adapted to 64 … 1,024 rows of 200 new campaigns beats not adapting, and never hurts (5)."""
    share, holds = SMALL if small else FULL, True
    with kept(folder) as out:
        for prefix, differences in PROCESSES.items():
            for output in UNITS:
                stem, simulator = out / f"{prefix}{output}", CampaignSimulator(0, differences)
                measured = _kept(stem) or _measure(simulator, output, out / f"{prefix}runs", share)
                tell(measured, stem, UNITS[output], CEILING)
                holds &= small or (_is_harmless(measured) if prefix else _is_better(measured))
        if not small:
            tell(_kept(out / "census") or census_states(out / "census"), out / "census", "people")
    return holds


def _kept(stem: Path) -> Measured | None:
    """What was measured before the proof was stopped."""
    path = stem.with_suffix(".json")
    return measured_of(json.loads(path.read_text())) if path.is_file() else None


def _measure(simulator: CampaignSimulator, output: str, runs: Path, share: Share) -> Measured:
    folder = runs / "table"
    if not (folder / "manifest.json").is_file():
        simulator.write_table(folder, **share.table)
    table = Table.open(folder)
    target = TaskOutput.of(table.schema.funnel, output)
    tasks = CampaignTasks(simulator, target, share.tasks, max(share.sizes), share.query)
    methods = campaign_methods(table, runs, target) | {CEILING: ExactBayes(simulator, target)}
    return measure(tasks, methods, target, share.sizes, os.cpu_count() or 1)


def campaign_methods(table: Table, runs: Path, target: TaskOutput) -> dict[str, Method]:
    """With both networks trained by the command line, unless they are."""
    meta, plain = (_bundle(EXPERIMENTS / "campaigns" / f"{name}.toml", table, runs) for name in ("meta", "plain"))
    rows = table.part("train")
    groups = group_by(table, rows, table.side("train"), "campaign")
    return standard_methods(meta, plain, target, rows, groups.keys)


def _bundle(experiment: Path, table: Table, runs: Path) -> Bundle:
    return Bundle.load(train(experiment, table.folder, runs / experiment.stem, seeds=1).bundles[0])


def tell(measured: Measured, stem: Path, rows: str, ceiling: str | None = None) -> None:
    """Print the gains over the plain network, write the figures and draw the curves."""
    curves = write(measured, stem, rows=rows, over=PLAIN, ceiling=ceiling)
    head = (f"{stem.name}: gain over {PLAIN}", *(f"{size:,} {rows}" for size in measured.sizes))
    show(head, [(name, *map(_cell, intervals)) for name, intervals in curves.items()])


def _cell(gain: Interval) -> str:
    return f"{gain.estimate:+.5f} [{gain.low:+.5f}, {gain.high:+.5f}]"


def _is_better(measured: Measured) -> bool:
    """Better than either network as it is, with 1,024 impressions better than an offset alone; at 16 not worse."""
    sizes, output = measured.sizes, measured.output
    over = {name: dict(zip(sizes, gains(measured, META_ADAPTED, name), strict=True)) for name in (PLAIN, META, OFFSET)}
    better = all(over[name][size].low > 0 for name in (PLAIN, META) for size in BETTER[output])
    return better and over[PLAIN][16].high >= 0 and (output != "click" or over[OFFSET][1024].low > 0)


def _is_harmless(measured: Measured) -> bool:
    """Nowhere significantly worse than the plain network as it is."""
    return all(gain.high >= 0 for gain in gains(measured, META_ADAPTED, PLAIN))
