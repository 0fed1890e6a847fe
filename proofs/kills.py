"""kill -9 at random moments of preparing, training and predicting: what is made in the end is the same, bit for bit."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from harness.calls import call
from harness.show import show
from proofs.killed import Job, Kill, Whole, kills_of, undisturbed
from proofs.material import EXPERIMENT, PLAIN, RICH, small_log, toml

NUMBERS = {"prepare a log": 10, "prepare ali-ccp": 10, "train": 19, "train --seeds 2": 1, "predict": 5}
SMALL = {"prepare a log": 2, "prepare ali-ccp": 1, "train": 3, "predict": 1}
"""Kills of each job that were not too late."""
LOG_ROWS = 20_000
"""Rows of the log that is trained on; the one that is prepared is a multiple of it."""
OPTIMIZER = {**EXPERIMENT["optimizer"], "batch_size": 512, "micro_batch": 256}


def kills(small: bool = False) -> bool:
    """kill -9 at 20 random moments of preparing, 20 of training and 5 of predicting (3, 3 and 1 as a small share)."""
    with tempfile.TemporaryDirectory() as folder:
        found = run(Path(folder), small)
    count = [kill for kill in found if not kill.late]
    rows = []
    for job in NUMBERS:
        own = [kill for kill in count if kill.job == job]
        late = sum(kill.late for kill in found if kill.job == job)
        working, going_on = sum(kill.working for kill in own), sum(kill.checkpoint for kill in own)
        refused = sum(kill.refused for kill in own)
        moments = " ".join(f"{kill.moment:.1f}" for kill in own)
        rows.append((job, len(own), len(own) - working, working, going_on, late, refused, moments))
    head = ("job", "kills", "at start", "at work", "with checkpoint", "too late", "refused next", "moments (s)")
    show(head, rows)
    failed = problems(found)
    for problem in failed:
        show(("failed",), [(problem,)])
    return not failed


def problems(found: list[Kill]) -> list[str]:
    """What is wrong with kills: a resume that differs, something half-written that was taken, too few at work."""
    wrong = [f"{kill.job} at {kill.moment:.2f} s: {kill.problem}" for kill in found if kill.problem]
    working = [kill.working for kill in found if not kill.late]
    if 3 * sum(working) < len(working):
        wrong.append(f"only {sum(working)} of {len(working)} kills met a run at work; make the runs longer")
    return wrong


def run(folder: Path, small: bool, seed: int = 0) -> list[Kill]:
    """Every kill of every job, those that came too late among them."""
    numbers, rng = SMALL if small else NUMBERS, random.Random(seed)
    found: list[Kill] = []
    for job in _jobs(_inputs(folder / "inputs", small)):
        if job.name not in numbers:
            continue
        whole: Whole = undisturbed(job, folder / job.name)
        found += kills_of(job, whole, folder, numbers[job.name], rng)
    return found


def _inputs(folder: Path, small: bool) -> Path:
    """Logs, settings, a table and a bundle."""
    folder.mkdir()
    log = small_log(LOG_ROWS)
    pq.write_table(log, folder / "log.parquet")
    large = pa.concat_tables([log] * (15 if small else 80))
    pq.write_table(large.set_column(0, "row", pa.array(np.arange(len(large)))), folder / "large.parquet")
    epochs = 10 if small else 20
    stages = [{**EXPERIMENT["stages"][0], "epochs": epochs, "patience": epochs}, EXPERIMENT["stages"][1]]
    experiment = {**EXPERIMENT, "workers": 1, "checkpoint_seconds": 0.2, "optimizer": OPTIMIZER, "stages": stages}
    for name, settings in (("plain", PLAIN), ("rich", RICH), ("experiment", experiment)):
        (folder / f"{name}.toml").write_text(toml(settings))
    for arguments in (
        ("datasets", "generate", folder / "raw", "--rows", 200_000 if small else 800_000),
        ("prepare", folder / "plain.toml", "--train", folder / "log.parquet", "--out", folder / "table"),
        ("train", folder / "experiment.toml", "--data", folder / "table", "--out", folder / "run"),
        ("predict", folder / "run/bundle", folder / "large.parquet", "--out", folder / "predictions.parquet"),
    ):
        answer = call(*arguments)
        assert answer.code == 0, answer
    return folder


def _jobs(inputs: Path) -> list[Job]:
    experiment, raw = inputs / "experiment.toml", inputs / "raw"
    skeletons = [f"--{part}={raw / f'sample_skeleton_{part}.csv'}" for part in ("train", "test")]
    train = ("train", experiment, "--data", inputs / "table", "--out", "run")

    def train_on(path: Path) -> tuple[object, ...]:
        return "train", experiment, "--data", path, "--out", inputs / "never"

    def evaluate(path: Path) -> tuple[object, ...]:
        return "evaluate", path, inputs / "table"

    def compare(path: Path) -> tuple[object, ...]:
        return "compare", path, inputs / "predictions.parquet"

    log = ("prepare", inputs / "rich.toml", "--train", inputs / "large.parquet", "--out", "table")
    predict = ("predict", inputs / "run/bundle", inputs / "large.parquet", "--out", "p.parquet")
    return [
        Job("prepare a log", log, ("table",), train_on),
        Job("prepare ali-ccp", ("prepare", "ali-ccp", *skeletons, "--out", "table"), ("table",), train_on),
        Job("train", train, ("run/bundle",), evaluate),
        Job("train --seeds 2", (*train, "--seeds", 2), ("run/seed-0/bundle", "run/seed-1/bundle"), evaluate),
        Job("predict", predict, ("p.parquet",), compare),
    ]
