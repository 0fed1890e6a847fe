"""The log of rows: what a server was sent and what it answered, in Parquet files."""

from __future__ import annotations

import os
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from funnelcast.errors import FunnelcastError
from funnelcast.server import request_log
from funnelcast.server.logged_columns import Answered, LoggedColumns, as_logged
from funnelcast.server.request_log import RequestLog, require_writable
from funnelcast.server.settings import LogRows
from funnelcast.server.signature import Input, Signature
from funnelcast.serving.predictor import Predictor, load
from tests.server.logged import ALL_ROWS, CANDIDATES, REQUESTS, USER, ask_all, logged, until
from tests.server.served import COMMAND, ROWS, bundle, serving
from tests.server.test_figures import scraped

ALL = ("--log-share", "1")


@pytest.mark.slow
def test_all_requests_are_logged_as_they_were_sent_and_answered(folder: Path, tmp_path: Path) -> None:
    begun = datetime.now(UTC)
    with serving(folder, "--log-rows", str(tmp_path / "log"), *ALL) as server:
        ask_all(server)
        assert server.ask("/v1/status")[1]["log"] == {"requests": 0, "rows": 0, "dropped": 0, "failed": 0}
        assert not list((tmp_path / "log").iterdir())
    rows, predictor = logged(tmp_path / "log"), load(folder)
    assert len(rows) == ALL_ROWS and len(rows["log_request"].unique()) == REQUESTS
    assert set(rows["log_version"].to_pylist()) == {predictor.bundle.fingerprint}
    assert set(rows["log_precision"].to_pylist()) == {"float32"} and rows["log_delta"].null_count == ALL_ROWS
    ids = [None if i == 5 else f"request {i}" if i < 5 else "seventh" for i in range(7)]
    assert rows["log_id"].unique().to_pylist() == ids
    assert begun - timedelta(milliseconds=1) < rows["log_time"][0].as_py() < datetime.now(UTC)
    assert rows.column_names[8:] == [*ROWS, *predictor.columns], "and no column that the model does not read"
    first = rows.slice(0, 3)
    assert {name: first[name].to_pylist() for name in ROWS} == ROWS
    shared = rows.slice(4, 4)
    assert shared["user"].to_pylist() == ["u2"] * 4 and shared["seen"].to_pylist() == [[1, 2]] * 4
    for part, expected in ((first, predictor.predict(ROWS)), (shared, predictor.predict(CANDIDATES, USER))):
        for name in predictor.columns:
            assert part[name].to_pylist() == expected[name].tolist()


@pytest.mark.slow
def test_a_killed_process_leaves_whole_files(folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serving(folder, "--log-rows", str(log), "--log-seconds", "0.01", *ALL) as server:
        for _ in range(30):
            assert server.ask("/v1/rows", {"columns": ROWS})[0] == 200
        until(lambda: list(log.glob("*.parquet")))
        (pid,) = server.children()
        os.kill(pid, signal.SIGKILL)
        (log / f".left.parquet.partial-{pid}").write_bytes(b"half")
        server.until("ready")
        found = logged(log)
        assert 3 <= len(found) <= 90 and found["p_click"].null_count == 0
        assert not list(log.glob(".left*")), "what a killed process left is removed"
        server.ask("/v1/rows", {"columns": ROWS})
        until(lambda: scraped(server)["funnelcast_logged_requests_total written"] == 1)
    assert len(logged(log)) == len(found) + 3
    assert len({path.name.rpartition("-")[0] for path in log.glob("*.parquet")}) == 2


@pytest.mark.slow
def test_what_cannot_be_written_costs_no_request(folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serving(folder, "--log-rows", str(log), "--log-seconds", "0.01", *ALL) as server:
        log.rmdir()
        log.write_text("a file in its place")
        assert server.ask("/v1/rows", {"columns": ROWS})[0] == 200
        line = server.until("rows not logged")
        assert line["requests"] == 1 and "File exists" in line["error"]
        until(lambda: server.ask("/v1/status")[1]["log"] == {"requests": 0, "rows": 0, "dropped": 0, "failed": 1})
        log.unlink()
        assert server.ask("/v1/rows", {"columns": ROWS})[0] == 200
        until(lambda: scraped(server)["funnelcast_logged_rows_total"] == 3)
        assert scraped(server)["funnelcast_logged_requests_total failed"] == 1


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_into_is_an_error_at_the_start(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    command = [COMMAND, "serve", str(folder), "--port", "0", "--log-rows", str(tmp_path / "file")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert found.returncode == 2 and "give --log-rows a folder that can be written into" in found.stderr


def test_a_folder_on_a_full_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: Any) -> None:
        raise OSError(28, "No space left on device")

    require_writable(tmp_path / "log")
    monkeypatch.setattr(request_log, "TemporaryFile", full)
    with pytest.raises(FunnelcastError, match="No space left on device"):
        require_writable(tmp_path / "log")


def columns_and_request() -> tuple[LoggedColumns, Answered]:
    predictor = Predictor(bundle())
    rows = pa.table(ROWS).to_batches()[0]
    signature = Signature.of(predictor.bundle.encoder)
    return LoggedColumns(signature, predictor), Answered(rows, None, predictor.predict(ROWS), None)


def test_requests_that_find_no_memory_are_dropped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    columns, request = columns_and_request()
    monkeypatch.setattr(request_log, "BYTES", 1000)
    log = RequestLog(LogRows(tmp_path, share=1.0), columns)
    log.offer(request, 400)
    log.offer(request, 700)
    shared = pa.RecordBatch.from_pydict({"user": ["u" * 300]})
    log.offer(Answered(request.own.drop_columns(["user"]), shared, request.p, None), 10)
    log.close()
    assert log.counts() == {"requests": 1, "rows": 3, "dropped": 2, "failed": 0} and len(logged(tmp_path)) == 3
    log.offer(request, 400)
    assert log.counts()["dropped"] == 2, "its memory is free when it is written"


def test_files_are_bounded_and_requests_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    columns, request = columns_and_request()
    monkeypatch.setattr(request_log, "ROWS", 7)
    log = RequestLog(LogRows(tmp_path, share=1.0), columns)
    for _ in range(7):
        log.offer(request, 0)
    log.close()
    assert [len(pq.read_table(path)) for path in sorted(tmp_path.iterdir())] == [9, 9, 3]
    assert pq.read_table(min(tmp_path.iterdir()))["log_request"].value_counts().field("counts").to_pylist() == [3] * 3


def test_a_share_is_one_of_requests(tmp_path: Path) -> None:
    columns, request = columns_and_request()
    log = RequestLog(LogRows(tmp_path, share=0.25), columns)
    for _ in range(2000):
        log.offer(request, 0)
    log.close()
    assert 400 < log.counts()["requests"] < 600  # by 5 standard errors


def test_an_input_with_the_name_of_another_column_is_an_error() -> None:
    predictor = Predictor(bundle())
    signature = Signature({"p_click": Input("p_click", "FP64")}, predictor.columns)
    with pytest.raises(FunnelcastError, match="column 'p_click' of its own"):
        LoggedColumns(signature, predictor)


@pytest.mark.parametrize(
    ("values", "known", "kind"),
    [
        (pa.nulls(2), Input("x", "FP64"), pa.float64()),
        (pa.array([1, 2]), Input("x", "FP64"), pa.float64()),
        (pa.array([True, None]), Input("x", "FP64"), pa.float64()),
        (pa.array([2**53 + 1]), Input("x", "FP64"), pa.int64()),
        (pa.array(["1"]), Input("x", "FP64"), pa.string()),
        (pa.array([1], pa.uint8()), Input("x", "INT64"), pa.int64()),
        (pa.array([2**63], pa.uint64()), Input("x", "INT64"), pa.uint64()),
        (pa.array([1.0]), Input("x", "INT64"), pa.float64()),
        (pa.array(["007"]), Input("x", "INT64"), pa.string()),
        (pa.array(["a"], pa.large_string()), Input("x", "BYTES"), pa.string()),
        (pa.array([[]]), Input("x", "INT64", True), pa.large_list(pa.int64())),
        (pa.array([[1.5]]), Input("x", "INT64", True), pa.large_list(pa.float64())),
        (pa.nulls(2), Input("x", "BYTES", True), pa.large_list(pa.string())),
        (pa.nulls(2), Input("x", "FP64", True, "|"), pa.string()),
        (pa.array(["a|b"]), Input("x", "BYTES", True, "|"), pa.string()),
        (pa.array([[1, 2]], pa.list_(pa.int32(), 2)), Input("x", "INT64", True), pa.large_list(pa.int64())),
    ],
)
def test_values_have_one_type_where_none_changes(values: pa.Array, known: Input, kind: pa.DataType) -> None:
    found = as_logged(values, known)
    assert found.type == kind and found.to_pylist() == values.to_pylist()
