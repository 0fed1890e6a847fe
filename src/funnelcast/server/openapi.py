"""The server's addresses in the terms of OpenAPI 3.1."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Final

from funnelcast.server.headers import ARROW, JSON

_TYPES: Final[dict[str, dict[str, Any]]] = {
    "BOOL": {"type": "boolean"},
    "BYTES": {"type": ["string", "null"]},
    "INT64": {"type": ["integer", "null"], "minimum": -(2**63), "maximum": 2**63 - 1},
    "FP64": {"type": ["number", "null"]},
}
_ERRORS: Final = {
    "400": "The request breaks the protocol, or the rows do not fit the model",
    "401": "No known API key",
    "404": "No such model or version; of the shadow: none runs",
    "408": "The body came too slowly",
    "413": "The body or the rows are too many",
    "415": "The body's encoding is not known",
    "503": "The queue is full, or the model is not ready; Retry-After says when to try again",
    "504": "The request waited longer than it may",
}
_OBJECT: Final[dict[str, Any]] = {"type": "object"}
_TENSOR: Final = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {"type": "string"},
        "data": {"type": "array", "items": {}},
        "parameters": _OBJECT,
    },
}


def openapi_of(model: dict[str, Any], *, has_keys: bool) -> dict[str, Any]:
    """The description of a server that serves this model."""
    name = model["name"]
    paths = {
        "/v2": _get("The server and its extensions", "401"),
        "/v2/health/live": _get("Whether the server answers"),
        "/v2/health/ready": {"get": _ready()},
        f"/v2/models/{name}": _get("Inputs and outputs of the model", "401", "404", "503"),
        f"/v2/models/{name}/ready": _get("Whether this model answers", "401", "404", "503"),
        f"/v2/models/{name}/infer": _post("Probabilities of tensors", {JSON: _infer()}, {JSON: _inferred()}),
        "/v1/rows": _post("Probabilities of rows", {JSON: _rows(model), ARROW: {}}, {JSON: _OBJECT, ARROW: {}}),
        "/v1/status": _get("Figures of the rows that were scored", "401"),
        "/v1/shadow": _get("How far the shadow's probabilities are from those that were answered", "401", "404"),
        "/metrics": _get("The same for Prometheus", "401", kind="text/plain"),
    }
    said: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": f"funnelcast: {name}", "version": version("funnelcast")},
        "paths": paths,
        "components": {"schemas": {"Error": _object(error={"type": "string"})}},
    }
    if has_keys:
        said["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        said["security"] = [{"key": []}]
    return said


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _responses(content: dict[str, Any], *errors: str) -> dict[str, Any]:
    error = {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    bodies = {kind: {"schema": schema} for kind, schema in content.items()}
    refused = {status: {"description": _ERRORS[status], "content": error} for status in errors}
    return {"200": {"description": "The answer", "content": bodies}, **refused}


def _get(about: str, *errors: str, kind: str = JSON) -> dict[str, Any]:
    schema = _OBJECT if kind == JSON else {"type": "string"}
    return {"get": {"summary": about, "responses": _responses({kind: schema}, *errors)}}


def _ready() -> dict[str, Any]:
    answers = {"200": "The model answers", "503": "It does not answer yet"}
    content = {JSON: {"schema": _object(ready={"type": "boolean"})}}
    responses = {status: {"description": about, "content": content} for status, about in answers.items()}
    return {"summary": "Whether the model answers", "responses": responses}


def _post(about: str, takes: dict[str, Any], gives: dict[str, Any]) -> dict[str, Any]:
    body = {"required": True, "content": {kind: {"schema": schema} for kind, schema in takes.items()}}
    return {"post": {"summary": about, "requestBody": body, "responses": _responses(gives, *_ERRORS)}}


def _infer() -> dict[str, Any]:
    outputs = {"type": "array", "items": _object(name={"type": "string"})}
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "inputs": {"type": "array", "items": _TENSOR},
            "outputs": outputs,
            "parameters": _OBJECT,
        },
    }


def _inferred() -> dict[str, Any]:
    text = {"type": "string"}
    return _object(model_name=text, model_version=text, outputs={"type": "array", "items": _TENSOR})


def _rows(model: dict[str, Any]) -> dict[str, Any]:
    own = {each["name"]: _value(each) for each in model["inputs"] if not each["name"].endswith(".lengths")}
    lists = {each["name"].removesuffix(".lengths") for each in model["inputs"] if each["name"].endswith(".lengths")}
    row = {name: {"type": ["array", "null"], "items": kind} if name in lists else kind for name, kind in own.items()}
    columns = {name: {"type": "array", "items": kind} for name, kind in row.items()}
    shared = {"type": "object", "properties": row, "description": "What holds for all rows"}
    by_row = {"rows": {"type": "array", "items": {"type": "object", "properties": row}}, "shared": shared}
    by_column = {"columns": {"type": "object", "properties": columns}, "shared": shared}
    return {
        "oneOf": [
            {"type": "object", "required": [first], "properties": found, "additionalProperties": False}
            for first, found in (("rows", by_row), ("columns", by_column))
        ]
    }


def _value(said: dict[str, Any]) -> dict[str, Any]:
    return dict(_TYPES[said["datatype"]])
