"""Running a benchmark: a folder that goes on where it stopped.

RUN/benchmark.json   what it compares: settings of every model, and the table's protocol and checksums
RUN/table/           the prepared table, where none was given; RUN/generated-ROWS/ of a generated log
RUN/splits/N/        the tables of random splits, where these are asked for
RUN/cells/MODEL/N/   a model with the seed N, on the split N
RUN/results.json, RUN/results.md
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from funnelcast.data.files import clear_stale, write_atomic
from funnelcast.data.progress import Progress, silent
from funnelcast.data.table import Table
from funnelcast.errors import ConfigError, Fault, FunnelcastError
from funnelcast.experiments.benchmark.estimate import Estimate, estimate
from funnelcast.experiments.benchmark.markdown import markdown
from funnelcast.experiments.benchmark.pool import Cell, run_cells
from funnelcast.experiments.benchmark.results import results_of
from funnelcast.experiments.benchmark.source import check_folder, open_data
from funnelcast.experiments.benchmark.splits import split_tables
from funnelcast.experiments.benchmark.suite import Suite, slug
from funnelcast.experiments.experiment import Experiment
from funnelcast.experiments.published import Published
from funnelcast.threads import cores

LEFT_OUT = {"data", "workers", "checkpoint_seconds", "device"}
"""Settings of an experiment that do not decide its figures."""


@dataclass(frozen=True)
class Plan:
    """What is about to run, and what it will take."""

    cells: list[Cell]
    """All of them."""
    estimates: Mapping[str, Estimate]
    """Of a cell, by model, where there is one."""
    jobs: int
    table: Table

    @property
    def left(self) -> list[Cell]:
        """Cells that are not finished."""
        return [cell for cell in self.cells if not cell.is_finished]

    @property
    def seconds(self) -> float:
        """Of all that is left, with the cores shared out."""
        known = [self.estimates[cell.model].seconds for cell in self.left if cell.model in self.estimates]
        return sum(known) / self.jobs

    @property
    def bytes(self) -> int:
        """Of memory, at the same time."""
        known = [self.estimates[cell.model].bytes for cell in self.left if cell.model in self.estimates]
        return sum(sorted(known, reverse=True)[: self.jobs])

    @property
    def disk(self) -> int:
        """Bytes of the scores that are left to be written."""
        return len(self.left) * self.table.rows("test") * len(self.table.schema.funnel.names) * 4


def benchmark(
    file: Path | str,
    data: Path | str | None = None,
    out: Path | str | None = None,
    *,
    seeds: int | None = None,
    generated: int | None = None,
    jobs: int = 1,
    progress: Progress = silent,
    on_plan: Callable[[Plan], None] = lambda plan: None,
    on_end: Callable[[Cell], None] = lambda cell: None,
) -> dict[str, Any]:
    """Train and measure every model of the suite `file` with every seed; returns and writes the results.

    `data`: the prepared table, instead of the suite's own; `generated`: rows of a generated log to take instead;
    `jobs`: cells side by side. Finished cells are not run again; those that failed are. Raises FunnelcastError, also
    for both `data` and `generated`.
    """
    if data is not None and generated is not None:
        raise FunnelcastError(
            f"--data {data} and --generated {generated} were both given, and all models see one table; leave one out"
        )
    changes: dict[str, Any] = {"seeds": seeds} if seeds is not None else {}
    if generated is not None:
        changes |= {"source": "generated", "rows": generated, "data": None}
    elif data is not None:
        changes |= {"source": None}
    suite, experiments = Suite.read(file, **changes)
    folder = Path(out or Path("runs") / suite.name)
    check_folder(folder, "benchmark")
    table = open_data(suite, Path(file), None if data is None else Path(data), folder, progress)
    _check(file, experiments, table)
    said = {"--data": data, "--generated": generated}
    options = " ".join(f"{name} {shlex.quote(str(value))}" for name, value in said.items() if value is not None)
    _claim(folder, suite, experiments, table, {"suite": str(file), "options": options})
    tables = [table] * suite.seeds
    if suite.splits is not None:
        tables = split_tables(table, folder / "splits", suite.splits, suite.split_by)
    cells = [
        Cell(m, seed, e.model_copy(update={"seed": seed}), folder / "cells" / slug(m) / str(seed), own.folder)
        for seed, own in enumerate(tables)
        for m, e in experiments.items()
    ]
    workers = max(1, cores() // jobs)
    plan = Plan(cells, estimate(cells, table.folder, workers), jobs, table)
    on_plan(plan)
    ended = len(cells) - len(plan.left)

    def tell(cell: Cell) -> None:
        nonlocal ended
        ended += 1
        progress("benchmark", ended, len(cells), "cells", cell.name + (" FAILED" if cell.failure else ""))
        on_end(cell)

    run_cells(cells, jobs, tell, workers)
    return write_results(folder, suite, cells, table)


def write_results(folder: Path, suite: Suite, cells: list[Cell], table: Table) -> dict[str, Any]:
    """`results.json` and `results.md` of the cells that are finished."""
    results = results_of(suite, cells, table)
    write_atomic(folder / "results.json", json.dumps(results, indent=1, allow_nan=False).encode())
    published = Published.of(suite.published) if suite.published else None
    write_atomic(folder / "results.md", markdown(results, published).encode())
    return results


def _check(file: Path | str, experiments: Mapping[str, Experiment], table: Table) -> None:
    """Raises ConfigError with the faults of all experiments beside the table."""
    faults = []
    for name, experiment in experiments.items():
        try:
            experiment.check(table.encoder)
        except ConfigError as error:
            faults += [Fault(f"{name}: {fault.where}", fault.problem, fault.fix) for fault in error.faults]
    for part in ("dev", "test"):
        if not table.rows(part):
            faults.append(Fault("data", f"{table.folder} has no {part} rows", "prepare it with a split"))
    if faults:
        raise ConfigError(faults, str(file))


def _claim(
    folder: Path, suite: Suite, experiments: Mapping[str, Experiment], table: Table, command: Mapping[str, str]
) -> None:
    """Mark the folder as of these models on this table, or see that it is; models may be added to it. Raises
    FunnelcastError."""
    path = folder / "benchmark.json"
    clear_stale(path)
    settings = {n: e.model_dump(mode="json", exclude=LEFT_OUT | {"seed"}) for n, e in experiments.items()}
    said = {"name": suite.name, "protocol": table.protocol, "files": table.manifest["files"], "models": settings}
    said |= {"split": suite.splits is not None, "by": suite.split_by}
    said = json.loads(json.dumps(said | {"table": str(table.folder.resolve()), **command}))
    if path.is_file():
        before = json.loads(path.read_text())
        if (before["protocol"], before["files"]) != (said["protocol"], said["files"]):
            raise FunnelcastError(
                f"{folder} holds a benchmark on another table, {before['protocol']['name']} "
                f"({before['protocol']['fingerprint']}); figures of two tables are not mixed: choose another --out"
            )
        if (before.get("split", False), before.get("by")) != (said["split"], said["by"]):
            raise FunnelcastError(f"{folder} holds a benchmark with another kind of splits; choose another --out")
        for model, own in said["models"].items():
            place = folder / "cells" / slug(model)
            if before["models"].get(model, own) != own and place.exists():
                raise FunnelcastError(
                    f"{folder} has cells of {model} with other settings; delete {place} to run it again, or choose "
                    "another --out"
                )
        said["models"] = before["models"] | said["models"]
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(said, indent=1).encode())
