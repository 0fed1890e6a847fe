"""kill -9 at random moments of a benchmark: what it comes to is the same, bit for bit."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.cost import COMMAND
from harness.show import show
from proofs.compared import EXPERIMENTS, kept

MODELS = {"shared bottom": "shared-bottom", "MMoE": "mmoe", "AITM": "aitm", "LightGBM": "lightgbm"}
SMALL = ("MMoE", "LightGBM")
"""A network and boosters."""


def benchmark_kills(small: bool = False, rows: int = 20_000, folder: Path | None = None) -> bool:
    """kill -9 at 10 moments of a benchmark of 4 models x 2 seeds, 20,000 rows (1 kill, 2 models, 1 seed): equal."""
    kills, seeds, models = (1, 1, SMALL) if small else (10, 2, tuple(MODELS))
    with kept(folder) as out:
        suite = _suite(out, models, seeds, min(rows, 3000) if small else rows)
        started = time.perf_counter()
        _start(suite, out / "whole").wait()
        seconds, whole = time.perf_counter() - started, _columns(out / "whole")
        rng, found = random.Random(0), []
        for i in range(kills):
            moment = rng.uniform(i, i + 1) * seconds / kills
            run = out / f"killed-{i}"
            finished = _killed(suite, run, moment)
            _start(suite, run).wait()
            found.append((f"{moment:.1f}", finished, "equal" if _columns(run) == whole else "DIFFERENT"))
        show((f"moment of {seconds:.1f} s", "cells finished before", "figures and predictions"), found)
    return len(whole["cells"]) == len(models) * seeds and all(row[2] == "equal" for row in found)


def _suite(folder: Path, names: Sequence[str], seeds: int, rows: int) -> Path:
    path = folder / "suite.toml"
    models = [f'"{name}" = "{EXPERIMENTS / "aliccp" / MODELS[name]}.toml"' for name in names]
    head = ['name = "kills"', 'source = "generated"', f"rows = {rows}", f"seeds = {seeds}", "[models]"]
    path.write_text("\n".join([*head, *models]))
    return path


def _start(suite: Path, run: Path) -> subprocess.Popen[bytes]:
    quiet = subprocess.DEVNULL
    return subprocess.Popen([COMMAND, "benchmark", str(suite), "--out", str(run), "--json"], stdout=quiet, stderr=quiet)


def _killed(suite: Path, run: Path, moment: float) -> int:
    """How many cells were finished then."""
    process = _start(suite, run)
    time.sleep(moment)
    process.kill()
    process.wait()
    return len(list(run.glob("cells/*/*/cell.json")))


def _columns(run: Path) -> dict[str, Any]:
    """Everything that is no cost: figures, gains, and checksums of predictions."""
    results = json.loads((run / "results.json").read_text())
    models = {name: (model["figures"], model["gains"]) for name, model in results["models"].items()}
    cells = {
        path.parent.relative_to(run).as_posix(): json.loads(path.read_text())
        for path in run.glob("cells/*/*/cell.json")
    }
    figures = {name: (cell["metrics"], cell["predictions"], cell["protocol"]) for name, cell in cells.items()}
    return {"models": models, "cells": figures}
