"""One run of a benchmark, a model with a seed, in a process of its own: so that its memory is its own, that a crash is
not the others', and that several run side by side.

N/run/          the run of `train`
N/scores.npy    float32 (N, T), log of the probability of having reached each step, of the test rows
N/cell.json     its figures; there when the run is finished
N/failed.txt    why it is not; gone when it is tried again
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from funnelcast.benchmarks.protocol import protocol_of
from funnelcast.data.files import alone_in, write_atomic
from funnelcast.data.table import Table
from funnelcast.errors import FunnelcastError
from funnelcast.evaluation.score import score
from funnelcast.experiments.experiment import Experiment
from funnelcast.experiments.run import Run, train


def run_model(experiment: Experiment, table: Table, folder: Path, started: float | None = None) -> dict[str, Any]:
    """Train, or go on, measure the test rows, and write the figures; returns what `cell.json` has. `started`: when its
    process did, in seconds since the epoch. Raises FunnelcastError."""
    started = time.time() if started is None else started
    started -= _trained(folder / "run")
    run = train(experiment, table, folder / "run", baselines=False)
    columns = table.part("test")
    log_p, _ = score(run.bundle.model, columns, run.bundle.keep_negatives, calibration=run.bundle.calibration)
    scores = io.BytesIO()
    np.save(scores, log_p)
    write_atomic(folder / "scores.npy", scores.getvalue())
    record = {
        "protocol": protocol_of(table).as_dict(),
        "metrics": run.results["test"],
        "predictions": hashlib.sha256(log_p.tobytes()).hexdigest(),
        "cost": _cost(run, time.time() - started),
    }
    write_atomic(folder / "cell.json", json.dumps(record, indent=1).encode())
    return record


def scores_of(folder: Path) -> NDArray[np.float32]:
    """Of a finished run, memory-mapped."""
    found: NDArray[np.float32] = np.load(folder / "scores.npy", mmap_mode="r", allow_pickle=False)
    return found


def _cost(run: Run, seconds: float) -> dict[str, Any]:
    lines = _lines(run.folder)
    epochs = [line["rows_per_s"] for line in lines if "epoch" in line]  # boosters have none
    return {
        "parameters": run.bundle.model.size,
        "epochs": len(epochs) or None,
        "rows_per_s": statistics.median(epochs) if epochs else None,
        "training_seconds": round(sum(line["seconds"] for line in lines), 3),
        "seconds": round(seconds, 3),
        "peak_bytes": peak_memory(),
    }


def _lines(run: Path) -> list[dict[str, Any]]:
    log = run / "log.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []


def _trained(run: Path) -> float:
    """Seconds that processes trained which were stopped, as far as they wrote it."""
    return float(sum(line["seconds"] for line in _lines(run)))


def peak_memory() -> int:
    """Bytes that this process held at most. Of /proc where there is one: the kernel's other count starts with what the
    parent held."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.is_file() else None
    if found:
        return int(found[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(arguments: list[str]) -> int:
    """Run the model of EXPERIMENT.json and TABLE in FOLDER, which was started at the time STARTED; why it failed is its
    last line."""
    experiment, table, folder = map(Path, arguments[:3])
    try:
        with alone_in(folder, wait=True):
            settings = Experiment.from_dict(json.loads(experiment.read_text()))
            run_model(settings, Table.open(table), folder, float(arguments[3]))
    except KeyboardInterrupt:
        return 130
    except FunnelcastError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
