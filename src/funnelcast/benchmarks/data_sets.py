"""A benchmark on several data sets: one after the other, each in a folder of its own, and what they say together.

RUN/benchmarks.json            which data sets, and the command
RUN/SOURCE/                    the benchmark on each, as of one data set
RUN/results.json, RUN/results.md   over all
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from funnelcast.benchmarks.data_sets_markdown import sets_markdown
from funnelcast.benchmarks.suite import Source, Suite
from funnelcast.benchmarks.table_source import absent, check_folder, check_models, open_data, refusals
from funnelcast.data.files import write_atomic
from funnelcast.data.progress import Progress
from funnelcast.data.table import Table
from funnelcast.errors import FunnelcastError
from funnelcast.experiments.experiment import Experiment

Experiments = Mapping[str, Experiment]
Results = dict[str, Any]
CLAIM = "benchmarks"


class LeftOut(NamedTuple):
    """A data set, or of one a model, that has no figures, and why."""

    source: str
    model: str
    """Empty of a whole data set."""
    why: str

    def __str__(self) -> str:
        return f"{self.source}: {self.model or 'all'} left out: {self.why}"


def benchmark_sets(
    suite: Suite,
    experiments: Experiments,
    file: Path,
    folder: Path,
    command: Mapping[str, str],
    run: Callable[[Suite, Experiments, Table, Path], Results],
    progress: Progress,
    on_left_out: Callable[[LeftOut], None],
) -> Results:
    """Open or make the tables of all sources, then `run` the benchmark on each; returns and writes the results so far.

    Raises FunnelcastError where no source has its files, or the reference cannot take a funnel.
    """
    check_folder(folder, CLAIM, *suite.sources)
    folder.mkdir(parents=True, exist_ok=True)
    said = {"name": suite.name, "sources": suite.sources, **command}
    write_atomic(folder / f"{CLAIM}.json", json.dumps(said, indent=1).encode())
    left, tables = list[LeftOut](), dict[Source, Table]()
    for source in suite.sources:
        own = suite.of(source)
        if why := absent(own, folder / source, progress):
            left.append(LeftOut(source, "", why))
        else:
            tables[source] = open_data(own, file, None, folder / source, progress)
    suites = {source: _fitting(suite, experiments, source, table, left) for source, table in tables.items()}
    for each in left:
        on_left_out(each)
    if not tables:
        raise FunnelcastError("no data set of this benchmark is there:\n  " + "\n  ".join(map(str, left)))
    for source, own in suites.items():
        check_models(file, {name: experiments[name] for name in own.models}, tables[source])
    found, results = dict[str, Results](), Results()
    for source, own in suites.items():
        fitting = {name: experiments[name] for name in own.models}
        found[source] = run(own, fitting, tables[source], folder / source)
        results = _write(folder, suite, found, left)
    return results


def _fitting(suite: Suite, experiments: Experiments, source: Source, table: Table, left: list[LeftOut]) -> Suite:
    """The benchmark on a source, of the models that can take its funnel; the others are added to `left`."""
    refused = refusals(experiments, table)
    if suite.base in refused:
        raise FunnelcastError(
            f"gains are over {suite.base}, which cannot take {source}: it {refused[suite.base]}; set `reference` to "
            "another model, or leave the data set out"
        )
    left += [LeftOut(source, name, why) for name, why in refused.items()]
    models = {name: path for name, path in suite.models.items() if name not in refused}
    return suite.of(source).model_copy(update={"models": models})


def _write(folder: Path, suite: Suite, found: Mapping[str, Results], left: list[LeftOut]) -> Results:
    results = {
        "name": suite.name,
        "title": suite.heading,
        "reference": suite.base,
        "models": list(suite.models),
        "sources": list(suite.sources),
        "left_out": [each._asdict() for each in left],
        "sets": dict(found),
    }
    write_atomic(folder / "results.json", json.dumps(results, indent=1, allow_nan=False).encode())
    write_atomic(folder / "results.md", sets_markdown(results).encode())
    return results
