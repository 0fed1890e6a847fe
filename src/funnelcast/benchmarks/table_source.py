"""The table that a benchmark's models see, opened or made, and whether the models can be trained on it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from funnelcast.benchmarks.suite import Suite
from funnelcast.data.datasets.aliccp.prepare import prepare_aliccp
from funnelcast.data.datasets.census.fetch import fetch
from funnelcast.data.datasets.census.prepare import prepare_census
from funnelcast.data.datasets.funnels.prepare import FUNNELS, prepare_funnel
from funnelcast.data.datasets.generator.generate import generate
from funnelcast.data.files import require_folder, work_folder
from funnelcast.data.progress import Progress
from funnelcast.data.table import Table
from funnelcast.errors import ConfigError, DataError, Fault, FunnelcastError, did_you_mean
from funnelcast.experiments.experiment import Experiment

GENERATED = "generated-"
"""Before the number of rows, the name of a generated table: one of another size is another."""
NO_ALICCP = """{name} needs Ali-CCP, and no table is given. The data set is "Ali-CCP: Alibaba Click and Conversion
Prediction" of Alibaba's Tianchi platform, free after a login: two archives, tens of GB unpacked, 42 million training
and 43 million test rows. Then
  funnelcast prepare ali-ccp --train sample_train.tar.gz --test sample_test.tar.gz --out data/ali-ccp
  funnelcast benchmark {file} --data data/ali-ccp
Preparing takes some minutes on one core (560,000 rows a second of a generated log of that shape) and about 7 GB of
disk; this command says beforehand how long training takes.
To run every line of the table on a generated log instead, with known true probabilities:
  funnelcast benchmark {file} --generated {rows}"""


def check_folder(folder: Path, what: str, *made: str) -> None:
    """Raises FunnelcastError where `folder` is a file, or holds no WHAT.json but other things than data and those
    `made`."""
    require_folder(folder)
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if f"{what}.json" not in found and any(not n.startswith((".", GENERATED)) for n in found - {"table", *made}):
        raise FunnelcastError(f"{folder} is not empty and holds no {what}; choose another folder with --out")


def open_data(suite: Suite, file: Path, data: Path | None, folder: Path, progress: Progress) -> Table:
    """The table of `data` or of the suite's own folder, or one made below `folder`. Raises FunnelcastError."""
    named = data or suite.data
    if named is not None and (data is not None or suite.source is None or (named / "manifest.json").is_file()):
        return Table.open(named)
    if suite.source == "ali-ccp":
        raise FunnelcastError(NO_ALICCP.format(name=suite.name, file=shlex.quote(str(file)), rows=suite.rows))
    made = _place(suite, folder)
    if not (made / "manifest.json").is_file():
        _make(suite, file, made, progress)
    return Table.open(made)


def absent(suite: Suite, folder: Path, progress: Progress) -> str:
    """Why the table of the suite's source can neither be opened nor made below `folder`; empty where it can."""
    if (_place(suite, folder) / "manifest.json").is_file():
        return ""
    if suite.source == "census-income":
        try:
            fetch(progress=progress)
        except DataError as error:
            return str(error)
    if suite.source not in FUNNELS or FUNNELS[suite.source].shipped is not None:
        return ""
    found, path = FUNNELS[suite.source], suite.files.get(suite.source)
    if path is not None and path.exists():
        return ""
    lacking = "no file is given" if path is None else f"{path} does not exist"
    return f"{lacking}; say where it is with --files {found.name}=PATH: {found.source}"


def check_files(suite: Suite, files: Mapping[str, Path | str]) -> Suite:
    """The suite with `files` by source in place of its own. Raises FunnelcastError for one that it does not read, or
    that is not there."""
    shipped = {name for name, found in FUNNELS.items() if found.shipped is not None}
    from_files = [name for name in FUNNELS if name in (*suite.sources, suite.source) and name not in shipped]
    for source, path in files.items():
        if source not in from_files:
            hint = did_you_mean(source, from_files) or "leave it out"
            raise FunnelcastError(f"--files {source}={path}: this benchmark reads no files of {source!r}; {hint}")
        if not Path(path).exists():
            raise FunnelcastError(f"--files {source}={path}: {path} does not exist; give the path of a file or folder")
    given = {source: Path(path) for source, path in files.items()}
    return suite.model_copy(update={"files": {**suite.files, **given}})


def split_key(suite: Suite) -> str | None:
    """The column whose groups `splits` do not part: the suite's own, or that of its source."""
    found = FUNNELS.get(suite.source or "")
    return suite.split_by or (found.group if found else None)


def _place(suite: Suite, folder: Path) -> Path:
    return folder / (f"{GENERATED}{suite.rows}" if suite.source == "generated" else "table")


def _make(suite: Suite, file: Path, table: Path, progress: Progress) -> None:
    if suite.source == "census-income":
        prepare_census(table, progress=progress)
    elif suite.source == "generated":
        with work_folder(table) as folder:
            generate(folder / "log", suite.rows, progress=progress)
            train, test = (folder / "log" / f"sample_skeleton_{part}.csv" for part in ("train", "test"))
            prepare_aliccp(train, test, table, progress=progress)
    elif suite.source in FUNNELS:
        if why := absent(suite, table.parent, progress):
            raise DataError(f"{suite.source} cannot be made: {why}")
        prepare_funnel(suite.source, table, file=suite.files.get(suite.source), progress=progress)
    else:
        raise FunnelcastError(f'{file} names no data; add `data = "TABLE"`, or give --data TABLE')


def check_models(file: Path | str, experiments: Mapping[str, Experiment], table: Table) -> None:
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


def refusals(experiments: Mapping[str, Experiment], table: Table) -> dict[str, str]:
    """Why some models cannot take the funnel of a table, by name."""
    found = dict[str, str]()
    for name, experiment in experiments.items():
        faults = experiment.model.check(table.encoder.inputs, table.schema.funnel)
        if why := next((fault.problem for fault in faults if fault.where == "model.name"), ""):
            found[name] = why
    return found
