"""A bundle with every kind of feature, rows of it, and certificates."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from funnelcast.data.encoder import Encoder
from funnelcast.data.numeric import Bins, Standard
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.schema.dataset import Schema
from funnelcast.serving.bundle import Bundle
from harness.cost import COMMAND as COMMAND
from harness.server import Server as Server
from harness.server import serving as serving
from tests.serving.adapted import adaptable

MODEL = {"name": "shared_bottom", "tower": [4], "tower_dropout": []}
SCHEMA = Schema.from_dict(
    {
        "funnel": "click; conversion after click",
        "features": {
            "user": "categorical",
            "item": "categorical",
            "price": "numeric",
            "age": {"kind": "numeric", "transform": "bins", "bins": 4},
            "tags": {"kind": "multi", "weights": "tag_weights"},
            "words": {"kind": "multi", "separator": "|"},
            "seen": {"kind": "sequence", "vocabulary": "item", "max_length": 3},
        },
    }
)
ROWS: dict[str, Any] = {
    "user": ["u1", "u2", None],
    "item": [3, 4, 99],
    "price": [9.5, None, 12.0],
    "age": [30.0, 41.5, None],
    "tags": [["a", "b"], [], ["c"]],
    "tag_weights": [[1.0, 0.5], [], [2.0]],
    "words": ["x|y", "", "z"],
    "seen": [[1, 2, 3, 4], [5], []],
}
TENSORS: list[tuple[str, str, Any]] = [
    ("user", "BYTES", np.array([b"u1", b"u2", b"none"], object)),
    ("item", "INT64", np.array([3, 4, 99])),
    ("price", "FP64", np.array([9.5, np.nan, 12.0])),
    ("age", "FP32", np.array([30.0, 41.5, np.nan], np.float32)),
    ("tags", "BYTES", np.array([b"a", b"b", b"c"], object)),
    ("tags.lengths", "INT64", np.array([2, 0, 1])),
    ("tag_weights", "FP64", np.array([1.0, 0.5, 2.0])),
    ("tag_weights.lengths", "INT32", np.array([2, 0, 1], np.int32)),
    ("words", "BYTES", np.array([b"x|y", b"", b"z"], object)),
    ("seen", "INT64", np.array([1, 2, 3, 4, 5])),
    ("seen.lengths", "INT64", np.array([4, 1, 0])),
    ("user.valid", "BOOL", np.array([True, True, False])),
]
"""`ROWS` as the protocol has them: names, types and values."""


def encoder() -> Encoder:
    vocabularies = {
        "user": Vocabulary(pa.array(["u1", "u2", "u3"])),
        "item": Vocabulary(pa.array(range(20))),
        "tags": Vocabulary(pa.array(["a", "b", "c"])),
        "words": Vocabulary(pa.array(["x", "y"])),
    }
    return Encoder(SCHEMA, vocabularies, {"price": Standard(mean=10, std=3), "age": Bins(edges=(30, 45, 60))})


def bundle(**changes: Any) -> Bundle:
    return adaptable(encoder(), model=MODEL, **changes)


def certificate(folder: Path, name: str, *options: str) -> tuple[Path, Path]:
    """One of its own authority for 127.0.0.1, and its key."""
    key, made = folder / f"{name}.key", folder / f"{name}.pem"
    subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(made), "-days", "2", *subject, *options]
    subprocess.run(command, check=True, capture_output=True)
    return made, key
