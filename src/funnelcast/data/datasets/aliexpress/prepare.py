"""AliExpress: the search log of one country (Li et al., CIKM 2020), as MTReclib publishes it, to a prepared table.

train.csv and test.csv have a header and 82 columns: `search_id`, `categorical_1` to `categorical_16` (whole numbers
from 0), `numerical_1` to `numerical_63` (scaled by the publisher), `click` and `conversion`. Columns are read by name,
so an index that pandas wrote beside them does no harm. `search_id` counts the pages of results in one file: it is no
input, but kept beside the table. Both labels come from one outcome per row, so no published conversion lacks its click;
in a file that has such rows they are dropped and counted.

MTReclib has no dev rows: it stops on its test file and reports the epoch that is best there. Here a tenth of the
training file's searches is dev and the test file stays unseen, so figures are not comparable with its table one to one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from funnelcast.data.log.csv_source import NoHeaderError, read_header
from funnelcast.data.log.engine import engine_errors
from funnelcast.data.log.prepare import prepare
from funnelcast.data.log.sources import find_files, kind_of
from funnelcast.data.progress import Progress, silent
from funnelcast.data.quarantine import DEFAULT_LIMIT
from funnelcast.errors import DataError, did_you_mean
from funnelcast.schema.dataset import Schema

CATEGORICAL = tuple(f"categorical_{i}" for i in range(1, 17))
NUMERICAL = tuple(f"numerical_{i}" for i in range(1, 64))
COLUMNS = ("search_id", *CATEGORICAL, *NUMERICAL, "click", "conversion")


def aliexpress_schema() -> Schema:
    """The shipped protocol with its 79 features: every id that occurs in training is kept, numbers are standardised."""
    features = dict.fromkeys(CATEGORICAL, "categorical") | dict.fromkeys(NUMERICAL, "numeric")
    return Schema.from_toml(Path(__file__).with_name("schema.toml"), features=features)


def prepare_aliexpress(
    train: Path | str,
    test: Path | str | None,
    out: Path | str,
    *,
    max_bad: float = DEFAULT_LIMIT,
    replace: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Make the table `out` of a country's train.csv and test.csv, or Parquet with their columns; returns its manifest.

    A random tenth of the training file's searches is dev (seed 0), where MTReclib stops on its test file: figures are
    not comparable with its table one to one. Bad rows go to `OUT.quarantine.csv`, conversions without a click are
    dropped and counted. Raises DataError, QuarantineError, and FunnelcastError where `out` exists and `replace` is not
    set.
    """
    if test is None:
        raise DataError("aliexpress has its test rows in a file of their own, and none is given; give --test test.csv")
    train, test = Path(train), Path(test)
    _check_columns(train, test)
    schema = aliexpress_schema()
    return prepare(schema, Path(out), train=train, test=test, max_bad=max_bad, replace=replace, progress=progress)


def _check_columns(*paths: Path) -> None:
    """Raises DataError with what is wrong with the columns of every file, and the published ones."""
    faults = [fault for path in paths if (fault := _fault(path))]
    if faults:
        published = f"The published columns are {_in_words(COLUMNS)}, in a header"
        how = "data/preprocess.py of MTReclib makes train.csv and test.csv with them of the raw files"
        raise DataError("\n".join([*faults, f"{published}; {how}"]))


def _fault(path: Path) -> str:
    try:
        have = _columns(path)
    except NoHeaderError as error:
        return str(error)
    missing = [column for column in COLUMNS if column not in have]
    if not missing:
        return ""
    near = did_you_mean(missing[0], [column for column in have if column not in COLUMNS])
    hint = f"; for {missing[0]!r}, {near}" if near.startswith("did") else ""
    return f"{path} lacks {len(missing)} of the {len(COLUMNS)} columns of AliExpress: {_in_words(missing)}{hint}"


def _columns(path: Path) -> Sequence[str]:
    files, kind = find_files(path), kind_of(path)
    with engine_errors(path):
        if kind == ".parquet":
            names: list[str] = pq.read_schema(files[0]).names
            return names
        return read_header(path, gzipped=kind == ".csv.gz").names


def _in_words(columns: Sequence[str]) -> str:
    """Published columns in their order, those that follow each other as `numerical_1 to numerical_63`."""
    runs: list[list[str]] = []
    for column in columns:
        if runs and _follows(column, runs[-1][-1]):
            runs[-1].append(column)
        else:
            runs.append([column])
    return ", ".join(run[0] if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def _follows(column: str, other: str) -> bool:
    return COLUMNS.index(column) == COLUMNS.index(other) + 1 and column.split("_")[0] == other.split("_")[0]
