"""Requests of the Open Inference Protocol, by Triton's client and by hand, to a server in a process of its own."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton

from funnelcast.serving.predictor import load
from tests.server.served import ROWS, TENSORS, Server

pytestmark = pytest.mark.slow
INFER = "/v2/models/funnel/infer"


def inputs(binary: bool) -> list[triton.InferInput]:
    """Those of `ROWS`."""
    made = []
    for name, datatype, values in TENSORS:
        each = triton.InferInput(name, list(values.shape), datatype)
        each.set_data_from_numpy(values, binary_data=binary)
        made.append(each)
    if not binary:  # JSON has no NaN
        for i, plain in ((2, [9.5, None, 12.0]), (3, [30.0, 41.5, None])):
            made[i]._data = plain
    return made


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = load(folder).predict(ROWS)
    return found


def said(**changes: Any) -> dict[str, Any]:
    """A request in JSON."""
    request = {
        "inputs": [
            {"name": "user", "shape": [2], "datatype": "BYTES", "data": ["u1", "u2"]},
            {"name": "item", "shape": [2], "datatype": "INT64", "data": [3, 4]},
            {"name": "price", "shape": [1], "datatype": "FP64", "data": [9.5]},
            {"name": "age", "shape": [2], "datatype": "FP64", "data": [30, None]},
            {"name": "tags", "shape": [2, 1], "datatype": "BYTES", "data": [["a"], ["c"]]},
            {"name": "tag_weights", "shape": [2, 1], "datatype": "FP64", "data": [[1.5], [2.0]]},
            {"name": "words", "shape": [1], "datatype": "BYTES", "data": ["x|y"]},
            {"name": "seen", "shape": [1, 2], "datatype": "INT64", "data": [[1, 2]]},
        ]
    }
    return request | changes


def changed(i: int, **changes: Any) -> dict[str, Any]:
    request = said()
    request["inputs"][i] |= changes
    return request


def test_a_client_finds_the_server_and_the_model(server: Server) -> None:
    with triton.InferenceServerClient(server.url) as client:
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("funnel")
        assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
        found = client.get_model_metadata("funnel")
        assert [each["name"] for each in found["outputs"]] == ["p_click", "p_conversion", "p_conversion_given_click"]
        kinds = {each["name"]: each["datatype"] for each in found["inputs"]}
        assert kinds["user"] == "BYTES" and kinds["item"] == kinds["tags.lengths"] == "INT64" and kinds["age"] == "FP64"
        assert client.is_model_ready("funnel", found["versions"][0])
        assert not client.is_model_ready("funnel", "other") and not client.is_model_ready("other")


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("compressed", [None, "gzip", "deflate"])
def test_a_client_has_what_predict_has_bit_for_bit(
    server: Server, expected: dict[str, Any], binary: bool, compressed: str | None
) -> None:
    with triton.InferenceServerClient(server.url) as client:
        wanted = [triton.InferRequestedOutput(name, binary_data=binary) for name in expected]
        more: Any = {"request_compression_algorithm": compressed, "outputs": wanted, "request_id": "my 7"}
        answer = client.infer("funnel", inputs(binary), **more)
        assert answer.get_response()["id"] == "my 7"
        for name, values in expected.items():
            assert np.array_equal(answer.as_numpy(name), values)


def test_outputs_are_those_that_are_wanted(server: Server, expected: dict[str, Any]) -> None:
    with triton.InferenceServerClient(server.url) as client:
        answer = client.infer("funnel", inputs(True), outputs=[triton.InferRequestedOutput("p_click")])
        assert [each["name"] for each in answer.get_response()["outputs"]] == ["p_click"]
        answer = client.infer("funnel", inputs(True))  # all of them, binary
        assert np.array_equal(answer.as_numpy("p_conversion"), expected["p_conversion"])


def test_one_row_holds_for_all(server: Server, folder: Path) -> None:
    status, answer, _ = server.ask(INFER, said(id="a"))
    assert status == 200 and answer["id"] == "a" and answer["model_name"] == "funnel"
    rows = {"user": ["u1", "u2"], "item": [3, 4], "age": [30.0, None], "tags": [["a"], ["c"]]}
    rows |= {"tag_weights": [[1.5], [2.0]]}
    expected = load(folder).predict(rows, shared={"price": 9.5, "words": "x|y", "seen": [1, 2]})
    assert answer["outputs"][0]["data"] == expected["p_click"].tolist()


WRONG: dict[str, tuple[Any, str]] = {
    "no JSON": (b"{", "is no JSON"),
    "no object": ([1], "give an object"),
    "no inputs": ({}, "no list `inputs`"),
    "a number for an input": ({"inputs": [3]}, "has no name"),
    "a misspelt name": (changed(0, name="usr"), "no input 'usr'; did you mean 'user'"),
    "a name twice": (changed(1, name="user"), "'user' stands twice"),
    "a missing column": ({"inputs": said()["inputs"][1:]}, "lack 1 of the model's 8 columns: user"),
    "an unknown type": (changed(1, datatype="INT65"), "did you mean 'INT64'"),
    "a text for a number": (changed(1, data=["3", "4"]), "is INT64 and holds a value of type str"),
    "numbers for texts": (changed(0, data=[1, 2]), "is BYTES and holds a value of type int"),
    "a fraction": (changed(1, data=[3, 4.5]), "value of type float"),
    "too large a number": (changed(1, datatype="INT8", data=[3, 400]), "no INT8"),
    "too few values": (changed(1, shape=[3]), "shape [3] but 2 values"),
    "a negative size": (changed(1, shape=[-1]), "give a list of sizes"),
    "an endless size": (changed(1, shape=[10**18, 10**18]), "give a list of sizes"),
    "values beside lists": (changed(1, data=[3, [4]]), "nest all or none"),
    "other rows": (changed(1, shape=[3], data=[3, 4, 5]), "has 2 rows and 'item' has 3"),
    "a list for a value": (changed(1, shape=[2, 2], data=[1, 2, 3, 4]), "one value per row is needed"),
    "a flat list": (changed(7, shape=[2], data=[1, 2]), "give 'seen.lengths'"),
    "an unknown output": (said(outputs=[{"name": "p_clik"}]), "no output 'p_clik'; did you mean 'p_click'"),
    "an output without a name": (said(outputs=[{}]), "lists what is wanted"),
    "an id that is no text": (said(id=7), "give a text"),
    "a time that is none": (said(parameters={"timeout": "soon"}), "give whole microseconds"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_request_is_answered_with_the_fix(server: Server, what: str) -> None:
    body, message = WRONG[what]
    status, answer, _ = server.ask(INFER, body)
    assert status == 400 and list(answer) == ["error"]
    assert message in answer["error"]


BINARY = json.dumps(changed(1, data=None, parameters={"binary_data_size": 16})).encode()


@pytest.mark.parametrize(
    ("header", "rest", "message"),
    [
        (len(BINARY), b"\0" * 15, "binary_data_size is 16 and 15 bytes are left"),
        (len(BINARY), b"\0" * 17, "1 bytes follow the last tensor"),
        (len(BINARY) + 99, b"\0" * 16, "length of the JSON"),
        (len(BINARY) - 3, b"\0" * 16, "is no JSON"),
        ("many", b"", "number of bytes"),
    ],
)
def test_wrong_bytes_are_answered_with_the_fix(server: Server, header: Any, rest: bytes, message: str) -> None:
    status, answer, _ = server.ask(INFER, BINARY + rest, inference_header_content_length=str(header))
    assert status == 400 and message in answer["error"]


@pytest.mark.parametrize("raw", [b"\2\0\0\0ab\\9\0\0\0c", b"\2\0\0\0\xff\xfe" * 2, b"\0\0", b"\xff\xff\xff\xff"])
def test_texts_that_are_cut_or_no_texts(server: Server, raw: bytes) -> None:
    request = changed(0, data=None, parameters={"binary_data_size": len(raw)})
    head = json.dumps(request).encode()
    status, answer, _ = server.ask(INFER, head + raw, inference_header_content_length=str(len(head)))
    assert status == 400 and "input 'user'" in answer["error"]


def test_addresses_and_methods_that_there_are_not(server: Server) -> None:
    assert server.ask("/v3")[:2] == (404, {"error": "GET /v3: not found; GET /v2 says what is served"})
    status, answer, headers = server.ask(INFER, method="GET")
    assert status == 405 and "allowed: POST" in answer["error"] and "POST" in headers["allow"]
    assert server.ask("/v2/models/other/infer", said())[:2] == (
        404,
        {"error": "there is no model 'other'; this server has 'funnel'"},
    )
    assert "has no version 'b'" in server.ask("/v2/models/funnel/versions/b/infer", said())[1]["error"]


def test_bodies_beyond_the_limit_also_when_they_are_compressed(server: Server) -> None:
    bomb = gzip.compress(b" " * (1 << 28), 9)
    assert len(bomb) < 1 << 19
    for body, encoding in ((b" " * (17 << 20), "identity"), (bomb, "gzip")):
        status, answer, _ = server.ask(INFER, body, content_encoding=encoding)
        assert status == 413 and "larger than 16,777,216 bytes" in answer["error"]
    for body, encoding in ((bomb[:99], "gzip"), (b"abc", "gzip"), (b"abc", "br")):
        status, answer, _ = server.ask(INFER, body, content_encoding=encoding)
        assert status in (400, 415) and ("gzip" in answer["error"] or "br" in answer["error"])


def test_a_request_whose_time_is_over_is_not_scored(server: Server) -> None:
    status, answer, _ = server.ask(INFER, said(parameters={"timeout": 1}))
    assert status == 504 and "of the 1e-06 s that it had" in answer["error"]


def test_no_rows_are_no_mistake(server: Server) -> None:
    request = said()
    for each in request["inputs"]:
        each |= {"shape": [0, 1] if len(each["shape"]) == 2 else [0], "data": []}
    status, answer, _ = server.ask(INFER, request)
    assert status == 200 and answer["outputs"][0] == {"name": "p_click", "datatype": "FP64", "shape": [0], "data": []}
