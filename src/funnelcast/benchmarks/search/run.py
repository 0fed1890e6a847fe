"""Running a search: a folder that goes on where it stopped.

RUN/search.json      what is searched, and on which table
RUN/journal.log      every trial, by Optuna
RUN/table/           the data, where none was given; RUN/generated-ROWS/ of a generated log
RUN/sample/          the rows of it that are searched on, where not all are
RUN/results.json     trials by model, and the best
RUN/best/            the winners as experiment files, and suite.toml, a benchmark of them
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from funnelcast.benchmarks.search.config import Search
from funnelcast.benchmarks.search.space import check
from funnelcast.benchmarks.search.study import OnTrial, Study
from funnelcast.benchmarks.search.winners import write_winners
from funnelcast.benchmarks.suite import slug
from funnelcast.benchmarks.table_source import check_folder, open_data
from funnelcast.data.files import alone_in, new_folder, write_atomic
from funnelcast.data.progress import Progress, silent
from funnelcast.data.table import Table
from funnelcast.data.table_writer import TableWriter
from funnelcast.errors import ConfigError, Fault, FunnelcastError
from funnelcast.training.stages import Stage


def search(
    file: Path | str,
    data: Path | str | None = None,
    out: Path | str | None = None,
    *,
    trials: int | None = None,
    progress: Progress = silent,
    on_trial: OnTrial = lambda model, number, value: None,
) -> dict[str, Any]:
    """Search the settings of every model of `file`; returns and writes what was found.

    `data`: the prepared table, instead of the file's own; `trials`: of each model. Finished trials are not run again;
    one that was killed is run again with the same settings. Raises FunnelcastError.
    """
    changes: dict[str, Any] = {"trials": trials} if trials is not None else {}
    config, experiments = Search.read(file, **changes)
    config.check_names()
    if config.sources and data is None:
        problem = f"a search is on one data set, and {', '.join(config.sources)} are named"
        fix = f'write source = "{config.sources[0]}" in its place, or give a table with --data TABLE'
        raise ConfigError([Fault("sources", problem, fix)], str(file))
    spaces = {model: config.space_of(model, experiment) for model, experiment in experiments.items()}
    for model, experiment in experiments.items():
        check(spaces[model], experiment, model)
    folder = Path(out or Path("runs") / config.name)
    check_folder(folder, "search", "sample")
    optuna = require_optuna()
    whole = open_data(config, Path(file), None if data is None else Path(data), folder, progress)
    if faults := Stage(metric=config.metric).check(whole.schema.funnel, "search"):
        raise ConfigError(faults, str(file))
    _claim(folder, config, whole)
    with alone_in(folder):
        table = _sample(whole, config, folder) if config.train_rows is not None else whole
        journal = optuna.storages.journal.JournalFileBackend(str(folder / "journal.log"))
        storage, found = optuna.storages.JournalStorage(journal), {}
        for model, experiment in experiments.items():
            own = experiment.model_copy(update={"seed": config.seed})
            study = Study(optuna, storage, config, model, own, spaces[model])
            found[model] = study.run(table, folder / "trials" / slug(model), progress, on_trial)
            _write(folder, config, table, found)
        write_winners(folder / "best", config, experiments, found)
        return _write(folder, config, table, found)


def require_optuna() -> Any:
    """The module optuna. Raises FunnelcastError where it is missing."""
    try:
        optuna = importlib.import_module("optuna")
        importlib.import_module("tomli_w")
    except ImportError as error:
        raise FunnelcastError(
            f"searching needs the packages optuna and tomli-w, which cannot be imported ({error}); install them with: "
            "python -m pip install optuna tomli-w"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _sample(table: Table, config: Search, folder: Path) -> Table:
    """A table of some of the training rows, and at most as many dev rows; the test part stays behind."""
    assert config.train_rows is not None
    path = folder / "sample"
    if not (path / "manifest.json").is_file():
        rng = np.random.default_rng(config.seed)
        with new_folder(path, replace=True, mark="manifest.json") as partial, TableWriter(partial) as writer:
            for part in ("train", "dev"):
                size = table.rows(part)
                rows = np.sort(rng.choice(size, min(size, config.train_rows), replace=False))
                writer.part(part).append(table.part(part).take(rows), table.side(part).take(rows))
            writer.finish(table.encoder, {})
    return Table.open(path)


def _claim(folder: Path, config: Search, table: Table) -> None:
    """Mark the folder as of this search, or see that it is. Raises FunnelcastError."""
    left_out = {"trials", "seeds", "data", "title", "published", "reference"}
    said = {"search": config.model_dump(mode="json", exclude=left_out), "files": table.manifest["files"]}
    said, path = json.loads(json.dumps(said)), folder / "search.json"
    if path.is_file() and json.loads(path.read_text()) != said:
        raise FunnelcastError(f"{folder} holds another search, or one on another table; choose another --out")
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(said, indent=1).encode())


def _write(folder: Path, config: Search, table: Table, found: Mapping[str, Any]) -> dict[str, Any]:
    results = {"name": config.name, "metric": config.metric, "protocol": table.protocol, "models": dict(found)}
    write_atomic(folder / "results.json", json.dumps(results, indent=1).encode())
    return results
