"""The Open Inference Protocol over gRPC, by Triton's client and by hand."""

from __future__ import annotations

import gzip
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from funnelcast.server.grpc_messages import _MESSAGES, message
from funnelcast.serving.predictor import load
from tests.server.served import COMMAND, ROWS, TENSORS, Server, bundle, certificate, serving

slow = pytest.mark.slow
METHOD = "/inference.GRPCInferenceService/ModelInfer"
WITHIN = {"InferTensor": "ModelInferRequest.InferInputTensor", "ModelIndex": "RepositoryIndexResponse.ModelIndex"}
WITHIN |= {"InferRequestedOutput": "ModelInferRequest.InferRequestedOutputTensor"}
WITHIN |= {"TensorMetadata": "ModelMetadataResponse.TensorMetadata"}
"""Messages that the protocol's text has inside of others, which makes no difference in bytes."""


@pytest.mark.parametrize("name", _MESSAGES)
def test_messages_are_those_of_the_protocol(name: str) -> None:
    first, *rest = WITHIN.get(name, name).split(".")
    theirs = service_pb2.DESCRIPTOR.message_types_by_name[first]
    for inner in rest:
        theirs = theirs.nested_types_by_name[inner]
    assert described(message(name).DESCRIPTOR) == described(theirs)


def described(message: Any) -> list[Any]:
    """What a message's bytes depend on."""
    return [
        (each.name, each.number, each.type, each.is_repeated, (each.containing_oneof is None), inner(each))
        for each in message.fields
    ]


def inner(field: Any) -> Any:
    if field.message_type is None or not field.message_type.GetOptions().map_entry:
        return None
    return [(each.name, each.type) for each in field.message_type.fields]


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Server]:
    with serving(folder, "--grpc-port", "0") as server:
        yield server


@pytest.fixture
def client(running: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(running.grpc) as made:
        yield made


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = load(folder).predict(ROWS)
    return found


def inputs() -> list[triton.InferInput]:
    """Those of `ROWS`."""
    made = []
    for name, datatype, values in TENSORS:
        made.append(triton.InferInput(name, list(values.shape), datatype))
        made[-1].set_data_from_numpy(values)
    return made


def typed(**changes: Any) -> Any:
    """A request for two rows with typed contents."""
    request = message("ModelInferRequest")(model_name="funnel", id="a 7")
    contents: list[tuple[str, str, str, list[Any]]] = [
        ("user", "BYTES", "bytes_contents", [b"u1", b"u2"]),
        ("item", "INT32", "int_contents", [3, 4]),
        ("price", "FP32", "fp32_contents", [9.5]),
        ("age", "FP64", "fp64_contents", [30.0, float("nan")]),
        ("tags", "BYTES", "bytes_contents", [b"a", b"c"]),
        ("tags.lengths", "UINT8", "uint_contents", [1, 1]),
        ("tag_weights", "FP64", "fp64_contents", [1.5, 2.0]),
        ("tag_weights.lengths", "UINT64", "uint64_contents", [1, 1]),
        ("words", "BYTES", "bytes_contents", [b"x|y"]),
        ("words.valid", "BOOL", "bool_contents", [True]),
        ("seen", "INT64", "int64_contents", [1, 2, 1, 2]),
        ("seen.lengths", "INT16", "int_contents", [2, 2]),
    ]
    for name, datatype, field, values in contents:
        made = request.inputs.add(name=name, datatype=datatype, shape=[len(values)])
        getattr(made.contents, field).extend(values)
    for name, value in changes.items():
        setattr(request, name, value)
    return request


def infer(server: Server, request: Any, seconds: float = 30, **more: Any) -> Any:
    """The answer to a message, or to bytes."""
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary(METHOD, response_deserializer=message("ModelInferResponse").FromString)
        return call(request if isinstance(request, bytes) else request.SerializeToString(), timeout=seconds, **more)


@slow
def test_a_client_finds_the_server_and_the_model(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("funnel")
    assert list(client.get_server_metadata().extensions) == ["binary_tensor_data"]
    found = client.get_model_metadata("funnel")
    assert [each.name for each in found.outputs] == ["p_click", "p_conversion", "p_conversion_given_click"]
    kinds = {each.name: (each.datatype, list(each.shape)) for each in found.inputs}
    assert kinds["user"] == ("BYTES", [-1]) and kinds["tags.lengths"] == ("INT64", [-1])
    assert client.is_model_ready("funnel", found.versions[0])
    for name, version in (("funnel", "other"), ("other", "")):
        with pytest.raises(InferenceServerException, match="NOT_FOUND.*there is no model|NOT_FOUND.*has no version"):
            client.is_model_ready(name, version)


@slow
@pytest.mark.parametrize("compressed", [None, "gzip", "deflate"])
def test_a_client_has_what_predict_has_bit_for_bit(
    client: triton.InferenceServerClient, expected: dict[str, Any], compressed: str | None
) -> None:
    answer = client.infer("funnel", inputs(), request_id="my 7", compression_algorithm=compressed)
    assert answer.get_response().id == "my 7"
    assert {name: answer.as_numpy(name).tolist() for name in expected} == {n: v.tolist() for n, v in expected.items()}
    wanted = [triton.InferRequestedOutput("p_conversion")]
    answer = client.infer("funnel", inputs(), answer.get_response().model_version, outputs=wanted)
    assert [each.name for each in answer.get_response().outputs] == ["p_conversion"]
    assert np.array_equal(answer.as_numpy("p_conversion"), expected["p_conversion"])


@slow
def test_typed_contents_are_answered_with_typed_contents(running: Server, folder: Path) -> None:
    answer = infer(running, typed())
    rows = {"user": ["u1", "u2"], "item": [3, 4], "age": [30.0, None], "tags": [["a"], ["c"]]}
    rows |= {"tag_weights": [[1.5], [2.0]], "seen": [[1, 2], [1, 2]]}
    found = load(folder).predict(rows, shared={"price": 9.5, "words": "x|y"})
    assert answer.id == "a 7" and not answer.raw_output_contents
    assert {each.name: list(each.contents.fp64_contents) for each in answer.outputs} == {
        name: values.tolist() for name, values in found.items()
    }


def other(i: int, **changes: Any) -> Any:
    """The request with one input changed."""
    request = typed()
    for name, value in changes.items():
        if name == "shape":
            request.inputs[i].shape[:] = value
        else:
            setattr(request.inputs[i], name, value)
    return request


def with_raw(parts: list[bytes]) -> Any:
    request = typed()
    request.raw_input_contents.extend(parts)
    return request


def with_timeout(kind: str, value: Any) -> Any:
    request = typed()
    setattr(request.parameters["timeout"], kind, value)
    return request


WRONG: dict[str, tuple[Any, str, str]] = {
    "no message": (b"\xff\xff", "INVALID_ARGUMENT", "is no ModelInferRequest"),
    "another model": (typed(model_name="other"), "NOT_FOUND", "there is no model 'other'"),
    "another version": (typed(model_version="b"), "NOT_FOUND", "has no version 'b'"),
    "no inputs": (message("ModelInferRequest")(model_name="funnel"), "INVALID_ARGUMENT", "no inputs"),
    "a misspelt name": (other(0, name="usr"), "INVALID_ARGUMENT", "did you mean 'user'"),
    "an unknown type": (other(1, datatype="INT65"), "INVALID_ARGUMENT", "did you mean 'INT64'"),
    "another list": (other(1, datatype="INT64"), "INVALID_ARGUMENT", "has int_contents; give int64_contents"),
    "too few values": (other(1, shape=[3]), "INVALID_ARGUMENT", "shape [3] but 2 values"),
    "a negative size": (other(1, shape=[-1]), "INVALID_ARGUMENT", "give a list of sizes"),
    "half floats as a list": (other(3, datatype="FP16"), "INVALID_ARGUMENT", "has no data"),
    "too few parts": (with_raw([b"\0" * 4]), "INVALID_ARGUMENT", "has 1 parts for 12 inputs"),
    "cut parts": (with_raw([b"\0"] * 12), "INVALID_ARGUMENT", "end within a text"),
    "a time that is none": (with_timeout("string_param", "soon"), "INVALID_ARGUMENT", "give whole microseconds"),
    "no time": (with_timeout("int64_param", 1), "DEADLINE_EXCEEDED", "of the 1e-06 s that it had"),
}


@slow
@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_request_is_answered_with_the_fix(running: Server, what: str) -> None:
    request, code, text = WRONG[what]
    with pytest.raises(grpc.RpcError) as caught:
        infer(running, request)
    assert caught.value.code().name == code and text in caught.value.details()


@slow
def test_messages_beyond_the_limit_also_when_they_are_compressed(running: Server) -> None:
    large = typed(id=" " * (17 << 20)).SerializeToString()
    assert len(gzip.compress(large)) < 1 << 16
    for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
        with pytest.raises(grpc.RpcError) as caught:
            infer(running, large, compression=compression)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert infer(running, typed()).id == "a 7"


@slow
def test_a_clients_deadline_holds(running: Server) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        infer(running, typed(), seconds=1e-4)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


@slow
def test_calls_at_once_wait_and_more_are_refused(folder: Path) -> None:
    with serving(folder, "--grpc-port", "0", "--queue", "2") as server:

        def code(_: int) -> str:
            try:
                infer(server, typed())
            except grpc.RpcError as error:
                assert ("retry-after", "1") in error.trailing_metadata()
                return str(error.code().name)
            return "OK"

        with ThreadPoolExecutor(32) as pool:
            found = set(pool.map(code, range(200)))
        assert "OK" in found and found <= {"OK", "UNAVAILABLE"}
        status = server.ask("/v1/status")[1]
        assert status["served"] + status["failed"] == 200


@slow
def test_keys_and_certificates(folder: Path, tmp_path: Path) -> None:
    own, key = certificate(tmp_path, "server")
    client, client_key = certificate(tmp_path, "client")
    (tmp_path / "keys").write_text("first\nsecond\n")
    options = ["--certificate", str(own), "--key", str(key), "--client-ca", str(client)]
    with serving(folder, "--grpc-port", "0", "--api-keys", str(tmp_path / "keys"), *options) as server:
        trusted: dict[str, Any] = {"ssl": True, "root_certificates": str(own)}
        known = {"private_key": str(client_key), "certificate_chain": str(client)}
        with triton.InferenceServerClient(server.grpc, **trusted, **known) as asking:
            assert asking.is_server_live()
            with pytest.raises(InferenceServerException, match="UNAUTHENTICATED.*no known API key"):
                asking.get_model_metadata("funnel")
            for headers in ({"authorization": "Bearer second"}, {"x-api-key": "first"}):
                assert asking.get_model_metadata("funnel", headers=headers).name == "funnel"
        with (
            triton.InferenceServerClient(server.grpc, **trusted) as stranger,
            pytest.raises(InferenceServerException, match="UNAVAILABLE"),
        ):
            stranger.is_server_live()


@slow
def test_a_client_loads_and_unloads(tmp_path: Path) -> None:
    first, second, folder = bundle(), bundle(seed=1), tmp_path / "bundle"
    first.save(folder)
    with (
        serving(folder, "--grpc-port", "0", "--repository") as server,
        triton.InferenceServerClient(server.grpc) as client,
    ):
        (known,) = client.get_model_repository_index().models
        assert (known.name, known.version, known.state) == ("funnel", first.fingerprint, "READY")
        second.save(folder, replace=True)
        client.load_model("funnel")
        assert list(client.get_model_metadata("funnel").versions) == [second.fingerprint]
        with pytest.raises(InferenceServerException, match="INVALID_ARGUMENT.*'config' is not known"):
            client.load_model("funnel", config="{}")
        client.unload_model("funnel")
        assert not client.is_server_ready() and not client.is_model_ready("funnel") and client.is_server_live()
        with pytest.raises(InferenceServerException, match="UNAVAILABLE.*is not ready"):
            client.infer("funnel", inputs())


@slow
def test_clients_may_not_load_unless_the_server_lets_them(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="PERMISSION_DENIED.*start the server with --repository"):
        client.load_model("funnel")


@slow
def test_a_stopped_server_answers_what_it_has(folder: Path) -> None:
    with serving(folder, "--grpc-port", "0") as server, ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(infer, server, typed()) for _ in range(4)]
        time.sleep(0.05)
        server.process.terminate()
        assert server.process.wait(20) == 0
        for call in calls:
            error = call.exception()
            assert error is None or (isinstance(error, grpc.RpcError) and error.code().name == "UNAVAILABLE")


@slow
def test_a_port_that_is_taken(running: Server, folder: Path) -> None:
    port = running.grpc.rpartition(":")[2]
    command = [COMMAND, "serve", str(folder), "--port", "0", "--grpc-port", port]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert found.returncode == 2 and "choose another --host or --grpc-port" in found.stderr, found.stderr
    assert "Traceback" not in found.stderr
