"""A delta on disk: one safetensors file, whose header says all but the numbers, and has a checksum of everything."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from funnelcast.data.files import check_free, write_atomic
from funnelcast.errors import DeltaError

SUFFIX = ".safetensors"
FORMAT_VERSION = 1


class Content(NamedTuple):
    """Of a file."""

    said: dict[str, Any]
    new_ids: dict[str, pa.Array]
    """Integers or strings."""
    tensors: dict[str, Tensor]


def write_delta(path: Path, content: Content, *, replace: bool) -> None:
    """Raises FunnelcastError for a name without the suffix, or a file that is there and must not be replaced."""
    require_suffix(path)
    check_free(path, replace=replace)
    text = _text(content)
    head = {"delta": str(FORMAT_VERSION), "content": text, "checksum": _checksum(text, content.tensors)}
    write_atomic(path, safetensors.torch.save(content.tensors, head))


def read_delta(path: Path) -> Content:
    """Raises DeltaError."""
    if not path.is_file():
        raise DeltaError(f"{path} is not a file; make a delta with: funnelcast adapt")
    try:
        with safe_open(path, "pt") as file:
            head = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except (SafetensorError, OSError) as error:
        raise DeltaError(f"{path} is damaged ({error}); adapt again, or restore it from a copy") from None
    if "delta" not in head:
        raise DeltaError(f"{path} holds tensors, but is no delta; make one with: funnelcast adapt")
    if head["delta"] != str(FORMAT_VERSION):
        raise DeltaError(f"{path} has delta format {head['delta']}, this version reads {FORMAT_VERSION}; adapt again")
    if head.get("checksum") != _checksum(head.get("content", ""), tensors):
        raise DeltaError(f"{path} differs from its checksum; adapt again, or restore it from a copy")
    content = json.loads(head["content"])
    return Content(content["said"], {name: pa.array(ids) for name, ids in content["new_ids"].items()}, tensors)


def require_suffix(path: Path) -> None:
    """Raises DeltaError: a folder of deltas is read by the suffix."""
    if path.suffix != SUFFIX:
        raise DeltaError(f"{path} must end in {SUFFIX}, as deltas do")


def checksum(content: Content) -> str:
    """Of all that a file of this content has, in hex digits."""
    return _checksum(_text(content), content.tensors)


def _text(content: Content) -> str:
    ids = {name: values.to_pylist() for name, values in content.new_ids.items()}
    return json.dumps({"said": content.said, "new_ids": ids})


def _checksum(text: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode() + tensor.numpy().tobytes())
    return digest.hexdigest()
