"""Requests of every kind, and the rows that a server logged of them."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from funnelcast.server.headers import ARROW, JSON
from tests.server.served import ROWS, Server

USER: dict[str, Any] = {"user": "u2", "age": 33.0, "seen": [1, 2], "tags": ["a"], "tag_weights": [0.5], "words": None}
CANDIDATES: dict[str, list[Any]] = {"item": [3, 4, 77, 5], "price": [1, None, 7.25, 3]}
TENSORS: list[dict[str, Any]] = [
    {"name": "user", "shape": [1], "datatype": "BYTES", "data": ["u1"]},
    {"name": "item", "shape": [2], "datatype": "INT32", "data": [3, 4]},
    {"name": "price", "shape": [2], "datatype": "FP32", "data": [9.5, None]},
    {"name": "age", "shape": [1], "datatype": "INT64", "data": [30]},
    {"name": "tags", "shape": [1], "datatype": "BYTES", "data": ["a"]},
    {"name": "tags.lengths", "shape": [2], "datatype": "INT64", "data": [1, 0]},
    {"name": "tag_weights", "shape": [1], "datatype": "FP64", "data": [0.5]},
    {"name": "tag_weights.lengths", "shape": [2], "datatype": "INT64", "data": [1, 0]},
    {"name": "words", "shape": [2], "datatype": "BYTES", "data": ["x|y", None]},
    {"name": "seen", "shape": [2, 2], "datatype": "INT64", "data": [[1, 2], [3, 4]]},
]
REQUESTS = 7
ALL_ROWS = 3 + 1 + 4 + 2 + 600 + 3 + 2


def stream(columns: dict[str, Any]) -> bytes:
    table, sink = pa.table(columns), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def ask_all(server: Server) -> None:
    """`REQUESTS` of them, by row, by column, with shared values, as tensors, of many rows and as Arrow."""
    first = {name: values[0] for name, values in ROWS.items()}
    bodies: list[Any] = [
        {"columns": ROWS},
        {"rows": [{**first, "price": 7, "tags": None, "tag_weights": None, "kept": "aside"}]},
        {"columns": CANDIDATES, "shared": USER},
        {"columns": {name: [values[0]] * 2 for name, values in ROWS.items()} | {"price": [None, None]}},
        {"columns": {name: values * 200 for name, values in ROWS.items()}},
    ]
    for i, body in enumerate(bodies):
        assert server.ask("/v1/rows", body, x_request_id=f"request {i}")[0] == 200
    assert post(server, "/v1/rows", stream({**ROWS, "other": ["not", "read", "here"]}), ARROW) == 200
    assert (
        post(server, "/v2/models/funnel/infer", json.dumps({"id": "seventh", "inputs": TENSORS}).encode(), JSON) == 200
    )
    assert server.ask("/v1/rows", {"columns": {}})[0] == 400


def post(server: Server, path: str, body: bytes, kind: str) -> int:
    request = urllib.request.Request(f"http://{server.url}{path}", body, {"content-type": kind})
    with urllib.request.urlopen(request) as answer:
        return int(answer.status)


def logged(folder: Path) -> pa.Table:
    """The rows of all files, of one type each, in the order of requests."""
    tables = [pq.read_table(path) for path in sorted(folder.glob("*.parquet"))]
    return pa.concat_tables(tables, promote_options="permissive").sort_by("log_time")


def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
