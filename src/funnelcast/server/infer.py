"""Inference requests of the Open Inference Protocol: from bytes to rows, and from probabilities to bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from funnelcast.errors import InputError
from funnelcast.server.headers import JSON, JSON_BYTES
from funnelcast.server.tensors import Tensor, raw_of, tensor_of

Columns = Mapping[str, NDArray[np.float64]]
"""Probabilities (N,) by output."""


@dataclass(frozen=True)
class Request:
    """What a client asks for."""

    tensors: list[Tensor]
    outputs: dict[str, bool] = field(default_factory=dict)
    """By name, whether its values stand apart from the JSON; of those not named `binary`."""
    binary: bool = False
    id: str | None = None
    seconds: float | None = None
    """Within which to begin."""


def read_request(body: bytes, header: int | None) -> Request:
    """Raises InputError for what breaks the protocol."""
    if header is not None and not 0 < header <= len(body):
        raise InputError(
            f"{JSON_BYTES} is {header} and the body has {len(body)} bytes; let it be the length of the JSON"
        )
    said = loads(body if header is None else body[:header])
    inputs, rest = said.get("inputs"), b"" if header is None else body[header:]
    if not isinstance(inputs, list):
        raise InputError("the request has no list `inputs`; give the model's inputs, as its metadata names them")
    tensors, at = [], 0
    for each in inputs:
        size = _parameters(each).get("binary_data_size")
        if size is not None and (type(size) is not int or not 0 <= size <= len(rest) - at):
            raise InputError(f"binary_data_size is {size!r} and {len(rest) - at} bytes are left; let both agree")
        tensors.append(tensor_of(each, None if size is None else rest[at : at + size]))
        at += size or 0
    if at != len(rest):
        raise InputError(f"{len(rest) - at} bytes follow the last tensor; let the inputs' binary_data_size add up")
    own = _parameters(said)
    binary, seconds = own.get("binary_data_output") is True, seconds_of(own.get("timeout"))
    return Request(tensors, _outputs(said), binary, _id(said), seconds)


def loads(text: bytes) -> dict[str, Any]:
    """A JSON object. Raises InputError."""
    try:
        said = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InputError(f"the body is no JSON: {error}") from None
    if not isinstance(said, dict):
        raise InputError(f"the body is a JSON {type(said).__name__}; give an object")
    return said


def _parameters(said: Any) -> dict[str, Any]:
    found = said.get("parameters") if isinstance(said, dict) else None
    return found if isinstance(found, dict) else {}


def _id(said: dict[str, Any]) -> str | None:
    found = said.get("id")
    if found is not None and not isinstance(found, str):
        raise InputError(f"the request's id is {found!r}; give a text")
    return found


def seconds_of(timeout: Any) -> float | None:
    """Of the parameter `timeout`, which is in microseconds; 0 is none. Raises InputError."""
    if timeout is None:
        return None
    if type(timeout) is not int or timeout < 0:
        raise InputError(f"the parameter timeout is {timeout!r}; give whole microseconds")
    return timeout / 1e6 or None


def _outputs(said: dict[str, Any]) -> dict[str, bool]:
    found = said.get("outputs")
    if found is None:
        return {}
    named = [each.get("name") if isinstance(each, dict) else None for each in found] if isinstance(found, list) else []
    if not isinstance(found, list) or not all(isinstance(name, str) for name in named):
        raise InputError('`outputs` lists what is wanted, such as [{"name": "p_click"}]; give it so or leave it out')
    default = _parameters(said).get("binary_data_output") is True
    return {each["name"]: bool(_parameters(each).get("binary_data", default)) for each in found}


def write_answer(request: Request, columns: Columns, name: str, version: str) -> tuple[dict[str, str], bytes]:
    """Headers and body of the wanted outputs, FP64."""
    wanted = request.outputs or dict.fromkeys(columns, request.binary)
    outputs, raw = list[dict[str, Any]](), list[bytes]()
    for output, binary in wanted.items():
        values = columns[output]
        described: dict[str, Any] = {"name": output, "datatype": "FP64", "shape": [len(values)]}
        if binary:
            raw.append(raw_of(values))
            described["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            described["data"] = values
        outputs.append(described)
    said = {"model_name": name, "model_version": version, "outputs": outputs}
    if request.id is not None:
        said["id"] = request.id
    head = orjson.dumps(said, option=orjson.OPT_SERIALIZE_NUMPY)
    if not raw:
        return {"content-type": JSON}, head
    headers = {"content-type": "application/octet-stream", JSON_BYTES: str(len(head))}
    return headers, b"".join([head, *raw])
