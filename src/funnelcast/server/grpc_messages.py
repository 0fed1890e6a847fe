"""The messages of the Open Inference Protocol over gRPC, as classes of protobuf, without generated code."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FIELD: Final = descriptor_pb2.FieldDescriptorProto
_PACKAGE: Final = "inference"
_ONE_OF: Final = "value"
_MESSAGES: Final[dict[str, str]] = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live:bool",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready:bool",
    "ModelReadyRequest": "name:string version:string",
    "ModelReadyResponse": "ready:bool",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name:string version:string extensions:string*",
    "ModelMetadataRequest": "name:string version:string",
    "ModelMetadataResponse": "name:string versions:string* platform:string inputs:TensorMetadata* "
    "outputs:TensorMetadata*",
    "TensorMetadata": "name:string datatype:string shape:int64*",
    "ModelInferRequest": "model_name:string model_version:string id:string parameters:InferParameter% "
    "inputs:InferTensor* outputs:InferRequestedOutput* raw_input_contents:bytes*",
    "ModelInferResponse": "model_name:string model_version:string id:string parameters:InferParameter% "
    "outputs:InferTensor* raw_output_contents:bytes*",
    "InferTensor": "name:string datatype:string shape:int64* parameters:InferParameter% contents:InferTensorContents",
    "InferRequestedOutput": "name:string parameters:InferParameter%",
    "InferParameter": "bool_param:bool? int64_param:int64? string_param:string? double_param:double? "
    "uint64_param:uint64?",
    "InferTensorContents": "bool_contents:bool* int_contents:int32* int64_contents:int64* uint_contents:uint32* "
    "uint64_contents:uint64* fp32_contents:float* fp64_contents:double* bytes_contents:bytes*",
    "RepositoryIndexRequest": "repository_name:string ready:bool",
    "RepositoryIndexResponse": "models:ModelIndex*",
    "ModelIndex": "name:string version:string state:string reason:string",
    "RepositoryModelLoadRequest": "repository_name:string model_name:string parameters:ModelRepositoryParameter%",
    "RepositoryModelLoadResponse": "",
    "RepositoryModelUnloadRequest": "repository_name:string model_name:string parameters:ModelRepositoryParameter%",
    "RepositoryModelUnloadResponse": "",
    "ModelRepositoryParameter": "bool_param:bool? int64_param:int64? string_param:string? bytes_param:bytes?",
}
"""By message its fields in the order of their numbers: `*` repeated, `%` a map from texts, `?` one at a time."""


def message(name: str) -> type[Any]:
    """The class of a message, of those above."""
    return _CLASSES[f"{_PACKAGE}.{name}"]


def value_of(parameter: Any) -> Any:
    """The value of a parameter, whatever its type; None where it has none."""
    kind = parameter.WhichOneof(_ONE_OF)
    return None if kind is None else getattr(parameter, kind)


def _classes() -> dict[str, type[Any]]:
    """In a pool of their own, as a process may hold the same messages from generated code."""
    file = descriptor_pb2.FileDescriptorProto(name="funnelcast.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        _describe(file.message_type.add(name=name), fields)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    found: dict[str, type[Any]] = message_factory.GetMessageClassesForFiles([file.name], pool)
    return found


def _describe(own: Any, fields: str) -> None:
    if "?" in fields:
        own.oneof_decl.add(name=_ONE_OF)
    for number, field in enumerate(fields.split(), start=1):
        name, kind = field.rstrip("*%?").split(":")
        if field.endswith("%"):
            entry = own.nested_type.add(name=name.title() + "Entry")
            _describe(entry, f"key:string value:{kind}")
            entry.options.map_entry = True
            kind = f"{own.name}.{entry.name}"
        added = own.field.add(name=name, number=number, label=_FIELD.LABEL_OPTIONAL)
        if field[-1] in "*%":
            added.label = _FIELD.LABEL_REPEATED
        if field.endswith("?"):
            added.oneof_index = 0
        if kind.islower():
            added.type = _FIELD.Type.Value(f"TYPE_{kind.upper()}")
        else:
            added.type, added.type_name = _FIELD.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"


_CLASSES: Final = _classes()
