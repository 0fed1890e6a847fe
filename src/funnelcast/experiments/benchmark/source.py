"""The table that a benchmark's models see: opened, made, or said where to get."""

from __future__ import annotations

import shlex
from pathlib import Path

from funnelcast.data.datasets.aliccp.prepare import prepare_aliccp
from funnelcast.data.datasets.census.prepare import prepare_census
from funnelcast.data.datasets.generator.generate import generate
from funnelcast.data.files import require_folder, work_folder
from funnelcast.data.progress import Progress
from funnelcast.data.table import Table
from funnelcast.errors import FunnelcastError
from funnelcast.experiments.benchmark.suite import Suite

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
    made = folder / (f"{GENERATED}{suite.rows}" if suite.source == "generated" else "table")
    if not (made / "manifest.json").is_file():
        _make(suite, file, made, progress)
    return Table.open(made)


def _make(suite: Suite, file: Path, table: Path, progress: Progress) -> None:
    if suite.source == "census-income":
        prepare_census(table, progress=progress)
    elif suite.source == "generated":
        with work_folder(table) as folder:
            generate(folder / "log", suite.rows, progress=progress)
            train, test = (folder / "log" / f"sample_skeleton_{part}.csv" for part in ("train", "test"))
            prepare_aliccp(train, test, table, progress=progress)
    else:
        raise FunnelcastError(f'{file} names no data; add `data = "TABLE"`, or give --data TABLE')
