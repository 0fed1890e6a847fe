"""Scoring logged rows again: that a bundle predicts what was answered, or what another bundle says of the rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from funnelcast.data.arrow import numbers_of
from funnelcast.data.progress import Progress, silent
from funnelcast.errors import ComparisonError, FunnelcastError, InputError
from funnelcast.evaluation.probability_difference import ProbabilityDifference
from funnelcast.server.logged_columns import DELTA, DELTA_VERSION, KINDS, PRECISION, RowDeltas
from funnelcast.server.logged_files import LoggedFile, LoggedRequest, logged_files, requests_of
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.delta import Delta, read_deltas
from funnelcast.serving.predictor import Predictor

SHOWN: Final = 10
"""Probabilities that differ, of which all is told."""
DELTAS: Final = (DELTA, DELTA_VERSION)
_COMPARE: Final = "--compare measures how far another bundle is from the log"
P = Mapping[str, NDArray[np.float64]]
"""Probabilities (N,) by output."""


class _Scored(NamedTuple):
    request: LoggedRequest
    logged: P
    now: P


def replay(
    bundle: Path | str, log: Sequence[Path], *, deltas: Path | str | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """Score the logged rows again, each request as a whole as `predict` scores it, in bounded memory, and compare the
    probabilities bit for bit. `log`: files of `funnelcast serve --log-rows`, or folders of them.

    Returns the numbers of files, requests and rows, of rows that are `equal`, by output the number of those and the
    largest absolute difference, and the first probabilities that differ. Raises FunnelcastError, also for a log of
    another bundle or other deltas.
    """
    scoring = _Scoring(bundle, log, deltas)
    scoring.require_own()
    outputs = {name: {"equal": 0, "largest": 0.0} for name in scoring.outputs}
    said: dict[str, Any] = {"requests": 0, "rows": 0, "equal": 0, "outputs": outputs, "differing": []}
    for request, logged, now in scoring.scored(progress, is_own=True):
        same = {name: logged[name].view(np.int64) == now[name].view(np.int64) for name in outputs}
        for name, own in outputs.items():
            own["equal"] += int(same[name].sum())
            own["largest"] = max(own["largest"], float(np.abs(logged[name] - now[name]).max()))
        all_same = np.logical_and.reduce(list(same.values()))
        said["requests"] += 1
        said["rows"] += len(all_same)
        said["equal"] += int(all_same.sum())
        said["differing"] += _differing(request, same, logged, now)[: SHOWN - len(said["differing"])]
    return {"bundle": scoring.bundle.fingerprint, "files": len(scoring.files), **said}


def compare_with_log(
    bundle: Path | str, log: Sequence[Path], *, deltas: Path | str | None = None, progress: Progress = silent
) -> dict[str, Any]:
    """Score the logged rows of any bundle by this one, and measure how far its probabilities are from the logged ones.

    Returns the fingerprints, the numbers of files, requests and rows, and `ProbabilityDifference.figures` of each
    output that both have. Raises FunnelcastError.
    """
    scoring = _Scoring(bundle, log, deltas)
    measured = {name: ProbabilityDifference() for name in scoring.outputs}
    requests = rows = 0
    for request, logged, now in scoring.scored(progress, is_own=False):
        requests, rows = requests + 1, rows + request.rows.num_rows
        for name, own in measured.items():
            own.add(logged[name], now[name])
    return {
        "bundle": scoring.bundle.fingerprint,
        "logged_bundles": sorted(set().union(*(file.versions for file in scoring.files))),
        "files": len(scoring.files),
        "requests": requests,
        "rows": rows,
        "outputs": {name: own.figures("logged", "bundle") for name, own in measured.items()},
    }


class _Scoring:
    """A bundle, and a log that it scores again."""

    def __init__(self, bundle: Path | str, log: Sequence[Path], deltas: Path | str | None) -> None:
        self.files = logged_files(log)
        self.folder, self.bundle = bundle, Bundle.load(bundle)
        self._deltas: list[Delta] = [] if deltas is None else read_deltas(deltas)
        self._predictors: dict[str, tuple[Predictor, RowDeltas]] = {}
        self.outputs = self._outputs()

    def _outputs(self) -> list[str]:
        """Those of the bundle that all files have."""
        own = [output.column for output in self.bundle.encoder.schema.funnel.outputs]
        found = [name for name in own if all(name in file.columns for file in self.files)]
        if not found:
            raise ComparisonError(
                f"no output of {self.folder} ({', '.join(own)}) is in all files of the log; give files of a model with "
                "the same funnel"
            )
        return found

    def require_own(self) -> None:
        """Raises FunnelcastError where another bundle answered, or not all its outputs are logged."""
        for file in self.files:
            if others := sorted(file.versions - {self.bundle.fingerprint}):
                raise ComparisonError(
                    f"{file.path} has answers of the bundle {others[0]}, and {self.folder} is "
                    f"{self.bundle.fingerprint}; give the bundle that answered, or only its files; {_COMPARE}"
                )
            if lacking := [o.column for o in self.bundle.encoder.schema.funnel.outputs if o.column not in file.columns]:
                raise InputError(f"{file.path} lacks the column {lacking[0]!r}; give files as the server wrote them")

    def scored(self, progress: Progress, *, is_own: bool) -> Iterator[_Scored]:
        """Each request with its probabilities, the logged ones and those of now. `is_own`: by the same deltas."""
        done, rows = 0, sum(file.rows for file in self.files)
        for file in self.files:
            for request in requests_of(file):
                predictor, row_deltas = self._predictor(request)
                if is_own:
                    _require_deltas(request, row_deltas)
                yield _Scored(request, self._logged(request), self._now(predictor, file, request))
                done += request.rows.num_rows
                progress("replay", done, rows, "rows")

    def _predictor(self, request: LoggedRequest) -> tuple[Predictor, RowDeltas]:
        """Of the precision that the request was answered in."""
        precision = request.rows.column(PRECISION)[0].as_py()
        if precision not in self._predictors:
            try:
                predictor = Predictor(self.bundle, self._deltas, cast(Any, precision))
            except FunnelcastError as error:
                raise InputError(f"{request.path}, row {request.first}: {error}") from None
            self._predictors[precision] = predictor, RowDeltas(predictor)
        return self._predictors[precision]

    def _logged(self, request: LoggedRequest) -> P:
        return {name: _probabilities(request, name) for name in self.outputs}

    def _now(self, predictor: Predictor, file: LoggedFile, request: LoggedRequest) -> P:
        """By what the client gave, without what the log says of it."""
        inputs = [name for name in file.columns if name not in KINDS and name not in self.outputs]
        try:
            return predictor.predict_arrow(pa.Table.from_batches([request.rows.select(inputs)]))
        except InputError as error:
            raise InputError(f"{file.path}, from row {request.first}: {error}") from None


def _probabilities(request: LoggedRequest, name: str) -> NDArray[np.float64]:
    column = request.rows.column(name)
    if column.type != pa.float64() or column.null_count:
        what = f"is missing in {column.null_count} rows" if column.null_count else f"holds {column.type}, not double"
        raise InputError(f"{request.path}: {name!r} {what}; give files as the server wrote them")
    return cast(NDArray[np.float64], numbers_of(column))


def _require_deltas(request: LoggedRequest, row_deltas: RowDeltas) -> None:
    """Raises ComparisonError where a row was answered by another delta than it has now."""
    was, now = pa.table({name: request.rows.column(name) for name in DELTAS}), pa.table(row_deltas.of(request.rows))
    if was.equals(now):
        return
    rows = enumerate(zip(was.to_pylist(), now.to_pylist(), strict=True))
    row, (old, new) = next((row, both) for row, both in rows if both[0] != both[1])
    raise ComparisonError(
        f"{request.path}, row {request.first + row} was answered by {_named(old)}, and is scored by {_named(new)}; "
        f"give --deltas the deltas that the server had; {_COMPARE}"
    )


def _named(own: Mapping[str, str | None]) -> str:
    key, version = (own[name] for name in DELTAS)
    return "no delta" if version is None else f"the delta {version} of {key!r}"


def _differing(
    request: LoggedRequest, same: Mapping[str, NDArray[np.bool_]], logged: P, now: P
) -> list[dict[str, Any]]:
    """What is told of probabilities that differ, row by row."""
    apart = sorted((int(row), name) for name, own in same.items() for row in np.flatnonzero(~own)[:SHOWN])
    return [
        {
            "file": str(request.path),
            "row": request.first + row,
            "output": name,
            "logged": float(logged[name][row]),
            "now": float(now[name][row]),
        }
        for row, name in apart
    ]
