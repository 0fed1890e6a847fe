"""A bundle with every kind of feature, rows of it, and a server of it in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from funnelcast.data.encoder import Encoder
from funnelcast.data.numeric import Bins, Standard
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.schema.dataset import Schema
from funnelcast.serving.bundle import Bundle
from tests.serving.adapted import adaptable

COMMAND = str(Path(sys.executable).with_name("funnelcast"))
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


class Server:
    """A running one, and what asks it."""

    def __init__(self, process: subprocess.Popen[bytes], stderr: IO[str]) -> None:
        self.process, self._stderr = process, stderr
        self.log: list[dict[str, Any]] = []
        """Lines that were read of it."""
        listening = self.until("listening")
        self.url = str(listening["address"]).partition("//")[2]
        self.grpc = str(listening.get("grpc", ""))

    def ask(
        self, path: str, body: Any = None, method: str | None = None, **headers: str
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Status, JSON and headers."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"http://{self.url}{path}", data, named, method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, json.loads(answer.read()), {k.lower(): v for k, v in answer.headers.items()}
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read()), {k.lower(): v for k, v in error.headers.items()}

    def until(self, event: str, seconds: float = 60) -> dict[str, Any]:
        """The next line of the log with that event."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            line = self._stderr.readline()
            if not line.endswith("\n"):
                self._stderr.seek(self._stderr.tell() - len(line.encode()))
                assert self.process.poll() is None, f"the server ended: {self.log}"
                time.sleep(0.01)
            elif line.startswith("{"):
                self.log.append(json.loads(line))
                if self.log[-1]["event"] == event:
                    return self.log[-1]
        raise AssertionError(f"no {event!r} in the log: {self.log}")

    def children(self) -> list[int]:
        """Its scoring processes."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def until_no_children(self, seconds: float = 20) -> None:
        """All scoring processes have ended."""
        deadline = time.monotonic() + seconds
        while found := self.children():
            assert time.monotonic() < deadline, f"scoring processes that have not ended: {found}"
            time.sleep(0.01)


@contextmanager
def serving(folder: Path, *options: str, ready: bool = True) -> Iterator[Server]:
    """Its log goes to a file, as a pipe that nobody reads would stop it."""
    command = [COMMAND, "serve", str(folder), "--port", "0", *options]
    with tempfile.NamedTemporaryFile("w") as log, Path(log.name).open() as read:
        process = subprocess.Popen(command, stderr=log)
        try:
            server = Server(process, read)
            if ready:
                server.until("ready")
            yield server
        finally:
            process.terminate()
            try:
                process.wait(20)
            finally:
                process.kill()
                process.wait()


def certificate(folder: Path, name: str, *options: str) -> tuple[Path, Path]:
    """One of its own authority for 127.0.0.1, and its key."""
    key, made = folder / f"{name}.key", folder / f"{name}.pem"
    subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(made), "-days", "2", *subject, *options]
    subprocess.run(command, check=True, capture_output=True)
    return made, key
