"""Plain rows, as JSON and as Arrow."""

from __future__ import annotations

import http.client
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from funnelcast.server.headers import ARROW
from funnelcast.serving.predictor import load
from tests.server.served import ROWS, Server

pytestmark = pytest.mark.slow


def by_row(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def test_rows_have_what_predict_has(server: Server, folder: Path) -> None:
    expected = load(folder).predict(ROWS)
    lists: dict[str, list[Any]] = {name: values.tolist() for name, values in expected.items()}
    status, answer, _ = server.ask("/v1/rows", {"rows": by_row(ROWS)})
    assert status == 200 and answer["rows"] == by_row(lists)
    assert server.ask("/v1/rows", {"columns": ROWS})[1]["columns"] == lists
    named = [{name: value for name, value in row.items() if value is not None} for row in by_row(ROWS)]
    assert server.ask("/v1/rows", {"rows": [{"other": 1, **row} for row in named]})[1]["rows"] == answer["rows"]


def test_a_user_is_given_once(server: Server, folder: Path) -> None:
    user = {"user": "u2", "age": 33.0, "seen": [1, 2], "tags": ["a"], "tag_weights": [0.5], "words": None}
    own: dict[str, list[Any]] = {"item": [3, 4], "price": [1.0, None]}
    status, answer, _ = server.ask("/v1/rows", {"rows": by_row(own), "shared": user})
    expected = load(folder).predict(own, shared=user)
    assert status == 200 and [row["p_click"] for row in answer["rows"]] == expected["p_click"].tolist()


def test_an_arrow_stream_has_what_predict_has(server: Server, folder: Path) -> None:
    table, sink = pa.table(ROWS), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    body = bytes(sink.getvalue())

    def ask(content: bytes) -> tuple[int, bytes]:
        with closing(http.client.HTTPConnection(server.url)) as connection:
            connection.request("POST", "/v1/rows", content, {"content-type": ARROW})
            answer = connection.getresponse()
            return answer.status, answer.read()

    status, found = ask(body)
    assert status == 200
    assert pa.ipc.open_stream(found).read_all().equals(load(folder).predict(table))
    for cut in (body[: len(body) // 2], b"", b"nothing", body[:9]):
        status, found = ask(cut)
        assert status == 400 and b"no whole Arrow stream" in found


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "give {"),
        ({"rows": [], "columns": {}}, "give {"),
        ({"rows": {"user": 1}}, "is no list of objects"),
        ({"columns": [1]}, "is no object"),
        ({"rows": [{"usr": "u1"}]}, "none of the model's columns"),
        ({"rows": [{"user": "u1"}]}, "lack 7 of the model's 8 columns"),
        ({"columns": {"user": ["a"], "item": [1, 2]}}, "cannot be read as columns"),
        ({"columns": {**ROWS, "item": ["a", "b", "c"]}}, "column 'item' holds string"),
        ({"rows": by_row(ROWS), "shared": {"user": "u1"}}, "give it once"),
        ({"rows": by_row(ROWS), "shared": 3}, "shared"),
    ],
)
def test_wrong_rows_are_answered_with_the_fix(server: Server, body: Any, message: str) -> None:
    status, answer, _ = server.ask("/v1/rows", body)
    assert status == 400 and message in answer["error"], answer
