"""`funnelcast serve` in a process of its own, and what asks it."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from harness.cost import COMMAND


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
