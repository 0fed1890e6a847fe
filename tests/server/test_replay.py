"""Logged rows scored again: what a server answered is what `predict` says, and what is told where it is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tritonclient.grpc as triton
import tritonclient.http

from funnelcast.server.logged_columns import Answered, LoggedColumns
from funnelcast.server.request_log import RequestLog
from funnelcast.server.settings import LogRows
from funnelcast.server.signature import Signature
from funnelcast.serving.frames import one_batch
from funnelcast.serving.predictor import Predictor, load
from harness.calls import call
from tests import tiny
from tests.cli.test_main import loads, refused
from tests.server.logged import ALL_ROWS, REQUESTS, ask_all, until
from tests.server.served import ROWS, TENSORS, Server, bundle, serving
from tests.server.test_figures import scraped
from tests.serving import adapted

OUTPUTS = ("p_click", "p_conversion", "p_conversion_given_click")
MANY = {name: values * 1500 for name, values in ROWS.items()}


@pytest.fixture(scope="module")
def running(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    log = tmp_path_factory.mktemp("replayed") / "log"
    options = ("--log-rows", str(log), "--log-share", "1", "--log-seconds", "0.2", "--grpc-port", "0")
    with serving(folder, *options) as server:
        yield server, log


def ask_by_protocol(server: Server) -> None:
    """Binary tensors over HTTP, and gRPC."""
    for module, address in ((tritonclient.http, server.url), (triton, server.grpc)):
        inputs = []
        for name, datatype, values in TENSORS:
            inputs.append(module.InferInput(name, list(values.shape), datatype))
            inputs[-1].set_data_from_numpy(values)
        with module.InferenceServerClient(address) as client:
            client.infer("funnel", inputs)


@pytest.mark.slow
def test_what_a_running_server_answered_is_what_is_predicted(folder: Path, running: tuple[Server, Path]) -> None:
    server, log = running
    ask_all(server)
    ask_by_protocol(server)
    for _ in range(2):
        assert server.ask("/v1/rows", {"columns": MANY})[0] == 200
    rows = ALL_ROWS + 2 * 3 + 2 * 4500
    until(lambda: scraped(server)["funnelcast_logged_rows_total"] == rows)
    (log / ".20260101-1-000001.parquet.partial-1").write_bytes(b"PAR1 half")
    answer = call("replay", folder, log)
    assert answer.code == 0 and f"{rows:,} rows of {REQUESTS + 4} requests" in answer.out, answer
    assert f"{rows:,} equal" in answer.out
    found: dict[str, Any] = loads(call("replay", folder, *sorted(log.glob("*.parquet")), "--json"))
    assert found["rows"] == found["equal"] == rows and found["requests"] == REQUESTS + 4 and not found["differing"]
    assert found["outputs"] == {name: {"equal": rows, "largest": 0.0} for name in OUTPUTS}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return written(tmp_path / "log", Predictor(bundle()), [ROWS, {name: values * 2 for name, values in ROWS.items()}])


def written(folder: Path, predictor: Predictor, requests: list[Any]) -> Path:
    """A log of these requests, as a server writes it."""
    columns = LoggedColumns(Signature.of(predictor.bundle.encoder, predictor.key), predictor)
    log = RequestLog(LogRows(folder, share=1.0), columns)
    for rows in requests:
        rows = pa.table(rows)
        log.offer(Answered(one_batch(rows), None, predictor.predict_arrow(rows), None), 0)
    log.close()
    assert log.counts()["failed"] == 0
    return folder


def change(log: Path, how: Callable[[pa.Table], pa.Table]) -> Path:
    (path,) = log.glob("*.parquet")
    table = how(pq.read_table(path))
    path.unlink()
    pq.write_table(table, path)
    return path


def with_column(table: pa.Table, name: str, values: Any) -> pa.Table:
    values = values if isinstance(values, pa.Array) else pa.array(values)
    return table.set_column(table.column_names.index(name), name, values)


def test_probabilities_that_differ_in_a_bit_are_named(folder: Path, log: Path) -> None:
    was = pq.read_table(log)["p_click"].to_pylist()
    moved = [*was[:5], float(np.nextafter(was[5], 1)), *was[6:8], was[8] / 2]
    path = change(log, lambda table: with_column(table, "p_click", moved))
    answer = call("replay", folder, log)
    assert answer.code == 1 and "9 rows of 2 requests in 1 files, 7 equal" in answer.out
    assert f"  {path}, row 5: p_click was {moved[5]!r}, is {was[5]!r}\n" in answer.out
    assert f"  {path}, row 8: p_click was {moved[8]!r}, is {was[8]!r}\n" in answer.out
    found = json.loads(call("replay", folder, path, "--json").out)
    assert found["outputs"]["p_click"] == {"equal": 7, "largest": was[8] - moved[8]}
    assert found["outputs"]["p_conversion"] == {"equal": 9, "largest": 0.0}
    assert [each["row"] for each in found["differing"]] == [5, 8] and found["equal"] == 7


def test_an_input_that_was_changed_shows(folder: Path, log: Path) -> None:
    change(log, lambda table: with_column(table, "price", [1000.0] * 9))
    assert call("replay", folder, log).code == 1


def test_a_log_of_another_bundle(tmp_path: Path, log: Path) -> None:
    own, other = bundle(), bundle(seed=1)
    other.save(tmp_path / "other")
    said = refused("replay", tmp_path / "other", log)
    assert f"has answers of the bundle {own.fingerprint}, and {tmp_path / 'other'} is {other.fingerprint}" in said
    assert "--compare measures how far another bundle is" in said
    found: dict[str, Any] = loads(call("replay", tmp_path / "other", log, "--compare", "--json"))
    assert found["logged_bundles"] == [own.fingerprint] and found["bundle"] == other.fingerprint
    a, b = (np.tile(Predictor(each).predict(ROWS)["p_click"], 3) for each in (own, other))
    measured = found["outputs"]["p_click"]
    assert measured["rows"] == 9 and measured["difference"] == pytest.approx((b - a).mean(), rel=1e-6)
    assert measured["logged_mean"] == pytest.approx(a.mean()) and measured["bundle_mean"] == pytest.approx(b.mean())
    shown = call("replay", tmp_path / "other", log, "--compare")
    assert shown.code == 0 and f"answered by {own.fingerprint}, compared with {other.fingerprint}" in shown.out
    assert f"{measured['difference']:+.3g} ± " in shown.out


def test_what_is_no_whole_log_is_told(folder: Path, log: Path, tmp_path: Path) -> None:
    assert "is not there" in refused("replay", folder, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "has no logged rows; a server writes them --log-seconds" in refused("replay", folder, tmp_path / "empty")
    pq.write_table(pa.table(ROWS), tmp_path / "rows.parquet")
    assert "lacks the column 'log_time', so it is no log of rows" in refused(
        "replay", folder, tmp_path / "rows.parquet"
    )
    (path,) = log.glob("*.parquet")
    (tmp_path / "cut.parquet").write_bytes(path.read_bytes()[:-100])
    assert "cut.parquet is no whole Parquet file" in refused("replay", folder, tmp_path / "cut.parquet")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda table: table.drop_columns(["p_conversion"]), "lacks the column 'p_conversion'; give files as"),
        (lambda table: table.drop_columns(["item"]), "from row 0: the rows lack 1 of the model's 8 columns: item"),
        (lambda table: table.drop_columns(["log_version"]), "lacks the column 'log_version', so it is no log"),
        (lambda table: table.slice(0, 0), "has no logged rows"),
        (lambda table: table.slice(0, 7), "from row 3 there are 4 rows of the request"),
        (lambda table: pa.concat_tables([table.slice(0, 2), table.slice(4)]), "from row 0 there are 2 rows"),
        (lambda table: with_column(table, "log_request", ["a", "b"] * 4 + ["b"]), "there are 1 rows of"),
        (lambda table: with_column(table, "log_rows", ["3"] * 9), "'log_rows' holds string, not int32"),
        (
            lambda table: with_column(table, "log_version", pa.nulls(9, pa.string())),
            "'log_version' is missing in 9 rows",
        ),
        (lambda table: with_column(table, "p_click", [0.5] * 8 + [None]), "'p_click' is missing in 1 rows"),
        (lambda table: with_column(table, "p_click", ["0.5"] * 9), "'p_click' holds string, not double"),
        (lambda table: with_column(table, "log_precision", ["x"] * 9), "precision 'x' is not known"),
        (
            lambda table: table.rename_columns([name.replace("p_", "q_") for name in table.column_names]),
            "(p_click, p_conversion, p_conversion_given_click) is in all files of the log",
        ),
    ],
)
def test_a_log_that_was_changed_is_told(folder: Path, log: Path, how: Any, message: str) -> None:
    path = change(log, how)
    said = refused("replay", folder, log)
    assert message in said and (path.name in said or "logged rows" in said or "files of the log" in said)


def test_rows_of_deltas_are_scored_by_the_same(tmp_path: Path) -> None:
    adapted.base().bundle.save(tmp_path / "bundle")
    (tmp_path / "deltas").mkdir()
    for campaign in ("0", "1"):
        adapted.delta(campaign).save(tmp_path / "deltas" / f"{campaign}.safetensors")
    rows = tiny.draw_log(60, 3).drop_columns(["click", "conversion", "weight"])
    served = load(tmp_path / "bundle").with_deltas(tmp_path / "deltas")
    log = written(tmp_path / "log", served, [rows, rows.slice(7, 20)])
    table = pq.read_table(log)
    assert set(table["log_delta"].to_pylist()) >= {"0", "1", None}
    versions = {"0": adapted.delta("0").fingerprint, "1": adapted.delta("1").fingerprint, None: None}
    keys = table["log_delta"].to_pylist()
    assert table["log_delta_version"].to_pylist() == [versions[key] for key in keys] and versions["0"] != versions["1"]
    assert "80 equal" in call("replay", tmp_path / "bundle", log, "--deltas", tmp_path / "deltas").out
    row = keys.index(next(filter(None, keys)))
    said = refused("replay", tmp_path / "bundle", log)
    assert (
        f"row {row} was answered by the delta {versions[keys[row]]} of {keys[row]!r}, and is scored by no delta" in said
    )
    adapted.delta("1", reached=0.2).save(tmp_path / "deltas" / "1.safetensors", replace=True)
    said = refused("replay", tmp_path / "bundle", log, "--deltas", tmp_path / "deltas")
    assert f"was answered by the delta {versions['1']} of '1', and is scored by the delta " in said
    compared = call("replay", tmp_path / "bundle", log, "--deltas", tmp_path / "deltas", "--compare")
    assert compared.code == 0 and "80 rows of 2 requests" in compared.out


def test_requests_are_scored_as_they_came(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where batches of a file end within them, and files and batches lie in folders."""
    from funnelcast.server import logged_files

    monkeypatch.setattr(logged_files, "BATCH", 5)
    sizes = [1, 3, 7, 5, 2, 13, 1]
    rows = one_batch(pa.table({name: values * 5 for name, values in ROWS.items()}))
    log = written(tmp_path / "a/b", load(folder), [pa.Table.from_batches([rows.slice(0, size)]) for size in sizes])
    (file,) = logged_files.logged_files([tmp_path])
    assert [each.rows.num_rows for each in logged_files.requests_of(file)] == sizes
    assert [each.first for each in logged_files.requests_of(file)] == [0, *np.cumsum(sizes)[:-1]]
    shutil.copytree(log, tmp_path / "c")
    assert "64 rows of 14 requests in 2 files, 64 equal" in call("replay", folder, tmp_path).out
