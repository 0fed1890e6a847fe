"""Inference requests over gRPC: from bytes to a request, and from probabilities to bytes."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.message import DecodeError

from funnelcast.errors import InputError
from funnelcast.server.grpc_messages import message, value_of
from funnelcast.server.infer import Columns, Request, seconds_of
from funnelcast.server.tensors import Tensor, raw_of, tensor_of

_CONTENTS: Final = {
    "BOOL": "bool_contents",
    "BYTES": "bytes_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
}
"""By datatype the list of a tensor's values, where they are not sent as bytes."""


class GrpcRequest:
    """A ModelInferRequest."""

    def __init__(self, body: bytes) -> None:
        """Raises InputError for bytes that are none."""
        try:
            self._said = message("ModelInferRequest").FromString(body)
        except DecodeError:
            raise InputError("the request is no ModelInferRequest; encode it as the protocol says") from None
        self.model, self.version = str(self._said.model_name), str(self._said.model_version)

    def request(self) -> Request:
        """What the client asks for. Raises InputError for what breaks the protocol."""
        said = self._said
        wanted = dict.fromkeys((output.name for output in said.outputs), True)
        timeout = value_of(said.parameters["timeout"]) if "timeout" in said.parameters else None
        return Request(self._tensors(), wanted, id=said.id, seconds=seconds_of(timeout))

    def _tensors(self) -> list[Tensor]:
        inputs, raw = self._said.inputs, self._said.raw_input_contents
        if raw and len(raw) != len(inputs):
            raise InputError(f"raw_input_contents has {len(raw)} parts for {len(inputs)} inputs; give one for each")
        return [_tensor(each, raw[i] if raw else None) for i, each in enumerate(inputs)]

    def answer(self, request: Request, columns: Columns, name: str, version: str) -> bytes:
        """A ModelInferResponse with the wanted outputs, as bytes where the inputs came so."""
        answer = message("ModelInferResponse")(model_name=name, model_version=version, id=request.id)
        for output in request.outputs or columns:
            values = columns[output]
            added = answer.outputs.add(name=output, datatype="FP64", shape=[len(values)])
            if self._said.raw_input_contents:
                answer.raw_output_contents.append(raw_of(values))
            else:
                added.contents.fp64_contents.extend(values)
        return bytes(answer.SerializeToString())


def _tensor(said: Any, raw: bytes | None) -> Tensor:
    known = {"name": said.name, "datatype": said.datatype, "shape": list(said.shape)}
    if raw is None and said.datatype in _CONTENTS:
        known["data"] = _values(said)
    return tensor_of(known, raw)


def _values(said: Any) -> list[Any]:
    """Those of the list that belongs to the datatype. Raises InputError where others are filled."""
    wanted = _CONTENTS[said.datatype]
    for field, _ in said.contents.ListFields():
        if field.name != wanted:
            raise InputError(f"input {said.name!r} is {said.datatype} and has {field.name}; give {wanted}")
    values = list(getattr(said.contents, wanted))
    try:
        return [value.decode() for value in values] if wanted == "bytes_contents" else values
    except UnicodeDecodeError:
        raise InputError(f"input {said.name!r} holds a text that is not UTF-8; encode it so") from None
