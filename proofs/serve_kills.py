"""Processes of a server killed while another bundle takes over: answers are of one bundle or the other, whole."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
import urllib.error
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa

from funnelcast.serving.predictor import load
from harness.server import Server, serving
from harness.show import say

SECONDS = 2.0
"""After the signal, within which a process is killed."""


class Client:
    """Asks a server all the time, and keeps what is wrong with its answers."""

    def __init__(self, bundles: list[Path], rows: pa.Table) -> None:
        predictors = [load(folder) for folder in bundles]
        self.body = {"columns": rows.to_pydict()}
        self.expected = {each.bundle.fingerprint: _lists(each.predict(rows)) for each in predictors}
        self.versions = [each.bundle.fingerprint for each in predictors]
        self.faults, self.answers, self.busy = list[str](), 0, 0

    def ask(self, server: Server) -> str:
        """The version of the bundle that answers; empty where none does."""
        try:
            status, said, headers = server.ask("/v1/rows", self.body)
        except (OSError, urllib.error.URLError):
            return ""
        if status == 503 and "retry-after" in headers:
            self.busy += 1
            return ""
        self.answers += 1
        if status != 200 or said["columns"] != self.expected.get(said["version"]):
            self.faults.append(f"{status}: {str(said)[:300]}")
        return str(said.get("version", ""))

    def keep_asking(self, server: Server, done: threading.Event) -> None:
        """Until it is done."""
        while not done.is_set():
            self.ask(server)
            time.sleep(0.005)


def survives(client: Client, bundles: list[Path], served: Path, kills: int) -> bool:
    """Whether each answer was one bundle's, and the bundle of the folder was served after each kill."""
    rng, killed = random.Random(0), dict[str, int]()
    with ExitStack() as stack:
        server = _start(stack, bundles[0], served)
        for i in range(kills):
            who = rng.choice(["the front", "the scoring process", "the process that loads"])
            which = (i + 1) % 2
            front_is_gone = _kill(server, client, who, rng.random() * SECONDS, bundles[which], served)
            killed[who] = killed.get(who, 0) + 1
            if front_is_gone:
                stack.close()
                server = _start(stack, None, served)
            if fault := _not_served(server, client, client.versions[which]):
                client.faults.append(f"after {who} was killed: {fault}")
    said = ", ".join(f"{who} {times}" for who, times in killed.items())
    say(f"{kills} kills ({said}): {client.answers:,} answers, {client.busy:,} times 503 with Retry-After")
    for fault in client.faults:
        say(f"FAULT: {fault}")
    return not client.faults


def _lists(columns: Any) -> dict[str, list[float]]:
    return {name: columns[name].to_pylist() for name in columns.column_names}


def _start(stack: ExitStack, bundle: Path | None, served: Path) -> Server:
    if bundle is not None:
        shutil.copytree(bundle, served)
    return stack.enter_context(serving(served, "--no-log-requests"))


def _kill(server: Server, client: Client, who: str, after: float, bundle: Path, served: Path) -> bool:
    """Replace the folder, have it loaded, and kill a process meanwhile. Whether it was the front."""
    done = threading.Event()
    asking = threading.Thread(target=client.keep_asking, args=(server, done))
    asking.start()
    old = set(server.children())
    _replace(bundle, served)
    server.process.send_signal(signal.SIGHUP)
    time.sleep(after)
    loading = [pid for pid in server.children() if pid not in old]
    targets = {"the front": [server.process.pid], "the scoring process": [*old], "the process that loads": loading}
    for pid in targets[who]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # it has been replaced already
    if who == "the front":
        server.process.wait()
    time.sleep(0.2)
    done.set()
    asking.join()
    return who == "the front"


def _replace(bundle: Path, served: Path) -> None:
    new, old = served.with_name("new"), served.with_name("old")
    shutil.copytree(bundle, new)
    served.rename(old)
    new.rename(served)
    shutil.rmtree(old)


def _not_served(server: Server, client: Client, version: str, seconds: float = 60) -> str:
    """Why the bundle of the folder is not served, where it should be; a load that was killed is repeated."""
    deadline, signalled = time.monotonic() + seconds, time.monotonic()
    while (found := client.ask(server)) != version:
        if time.monotonic() > deadline:
            return f"{found or 'no bundle'} answers, and the folder has {version}"
        if time.monotonic() - signalled > 5:
            server.process.send_signal(signal.SIGHUP)
            signalled = time.monotonic()
        time.sleep(0.05)
    return ""
