"""Diagnoses of a whole run: of one training, or of the first seed of every model in a benchmark's results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from funnelcast.benchmarks.suite import slug
from funnelcast.data.files import write_atomic
from funnelcast.data.progress import Progress, silent
from funnelcast.errors import FunnelcastError
from funnelcast.reports.diagnosis.diagnose import diagnose


def diagnose_run(
    run: Path | str,
    data: Path | str | None = None,
    *,
    by: str | None = None,
    item: str | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Of a training run its diagnosis; of a benchmark those of its models, by name. Written to `RUN/diagnosis.json`.

    `data`: the prepared table; a benchmark knows its own. `by`, `item`: as of `diagnose`. Raises FunnelcastError.
    """
    run = Path(run)
    claim = run / "benchmark.json"
    if (run / "benchmarks.json").is_file():
        raise FunnelcastError(f"{run} is over several data sets; look into the models of one, as {run}/oulad")
    if not claim.is_file():
        if data is None:
            raise FunnelcastError(f"{run} does not say which table it was trained on; give it with --data TABLE")
        found = diagnose(run, data, by=by, item=item)
    else:
        said, results = json.loads(claim.read_text()), run / "results.json"
        told = json.loads(results.read_text()) if results.is_file() else said
        pairs = list(_first_runs(run, told["models"]))  # the claim has those that were taken out of the suite too
        found = {}
        for done, (model, folder) in enumerate(pairs, 1):
            split = run / "splits" / folder.parent.name
            own = data or (split if split.is_dir() else said.get("table"))
            if own is None:
                raise FunnelcastError(f"{run} does not say which table it was trained on; give it with --data TABLE")
            found[model] = diagnose(folder, own, by=by, item=item)
            progress("diagnose", done, len(pairs), "models", model)
    write_atomic(run / "diagnosis.json", json.dumps(found, allow_nan=False).encode())
    return found


def is_due(run: Path, *, anew: bool) -> bool:
    """Whether a diagnosis is wanted: `anew`, or of a benchmark on a table that is there whose results are newer."""
    claim, told, results = run / "benchmark.json", run / "diagnosis.json", run / "results.json"
    if anew or not (claim.is_file() and results.is_file()):
        return anew
    table = json.loads(claim.read_text()).get("table")
    is_stale = not told.is_file() or told.stat().st_mtime < results.stat().st_mtime
    return is_stale and table is not None and (Path(table) / "manifest.json").is_file()


def _first_runs(run: Path, models: list[str]) -> Iterator[tuple[str, Path]]:
    """The run of the first seed of every model that has a finished one."""
    for model in models:
        finished = sorted((run / "cells" / slug(model)).glob("*/cell.json"), key=lambda path: int(path.parent.name))
        if finished:
            yield model, finished[0].parent / "run"
