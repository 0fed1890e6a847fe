"""Running runs side by side, each in a process of its own; one that fails does not stop the others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from funnelcast.benchmarks.child_process import child_command
from funnelcast.data.files import write_atomic
from funnelcast.experiments.experiment import Experiment
from funnelcast.runtime.threads import cores

PAUSE = 0.05
LAST_LINES = 12


@dataclass(frozen=True)
class ModelRun:
    """A model with a seed."""

    model: str
    seed: int
    experiment: Experiment
    folder: Path
    table: Path

    @property
    def name(self) -> str:
        return f"{self.model}, seed {self.seed}"

    @property
    def is_finished(self) -> bool:
        return (self.folder / "cell.json").is_file()

    @property
    def failure(self) -> str:
        """Why it failed when it was last tried; empty if it did not."""
        path = self.folder / "failed.txt"
        return path.read_text() if path.is_file() and not self.is_finished else ""

    def read(self) -> dict[str, Any]:
        """Of a finished one."""
        found: dict[str, Any] = json.loads((self.folder / "cell.json").read_text())
        return found

    def settings(self, workers: int) -> Experiment:
        """What its process runs. Micro-batches go one by one unless the file says otherwise: sums, and so figures, are
        then the same for any number of threads, and of runs side by side."""
        model, optimizer = self.experiment.model, self.experiment.optimizer
        if model.differentiable and optimizer.at_once == "auto":
            optimizer = optimizer.model_copy(update={"at_once": 1})
        return self.experiment.model_copy(update={"workers": workers, "optimizer": optimizer})

    def start(self, workers: int) -> subprocess.Popen[bytes]:
        """The process of it, whose errors go to `errors.txt`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "failed.txt").unlink(missing_ok=True)
        experiment = self.settings(workers)
        path = self.folder / "experiment.json"
        write_atomic(path, json.dumps(experiment.model_dump(mode="json")).encode())
        module = "funnelcast.benchmarks.model_run"
        command = child_command(module, path, self.table.resolve(), self.folder, time.time())
        with (self.folder / "errors.txt").open("wb") as errors:
            return subprocess.Popen(
                command,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=environment(),
                start_new_session=True,  # a Ctrl-C of the terminal is told by `run_models`, once
            )

    def fail(self, code: int) -> None:
        """Note why its process ended with `code`."""
        lines = (self.folder / "errors.txt").read_text(errors="replace").strip().splitlines()
        why = "\n".join(lines[-LAST_LINES:]) or "it said nothing"
        if code < 0:
            why = f"killed by {signal.Signals(-code).name}" + (f"\n{why}" if lines else "; is there memory enough?")
        write_atomic(self.folder / "failed.txt", why.encode())


def environment() -> dict[str, str]:
    """Of a process that trains: idle math threads yield their core."""
    return {"GOMP_SPINCOUNT": "0"} | dict(os.environ)


def run_models(
    runs: Sequence[ModelRun], jobs: int, on_end: Callable[[ModelRun], None], workers: int | None = None
) -> None:
    """Run those that are not finished, `jobs` at a time, in their order; `on_end` is told of each.

    `workers`: threads of each; by default the cores are shared out. Ctrl-C lets every process write a checkpoint.
    """
    waiting = [run for run in runs if not run.is_finished]
    workers = workers or max(1, cores() // jobs)
    running: list[tuple[ModelRun, subprocess.Popen[bytes]]] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                run = waiting.pop(0)
                running.append((run, run.start(workers)))
            ended = [(run, process) for run, process in running if process.poll() is not None]
            running = [pair for pair in running if pair not in ended]
            for run, process in ended:
                if process.returncode or not run.is_finished:
                    run.fail(process.returncode)
                on_end(run)
            time.sleep(PAUSE)
    except BaseException:
        for _, process in running:
            process.send_signal(signal.SIGTERM)
        for _, process in running:
            process.wait()
        raise
