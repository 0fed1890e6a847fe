"""One peer on one model: prints a line of JSON. `python -m bench.peers.measure --help`, in the peers' environment."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import torch

from bench.peers.peer import Config, Peer, measure
from bench.peers.work import Data

PEERS = {"torch-rechub": ("rechub", "Rechub"), "deepctr-torch": ("deepctr", "DeepCTR"), "fuxictr": ("fuxi", "Fuxi")}


def main() -> int:
    """Exit status 3: the peer has no such model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peer", choices=PEERS, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--dim", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.set_num_interop_threads(1)
    with tempfile.TemporaryDirectory() as folder, quiet():
        kind = imported(asked.peer)
        if asked.model not in kind.models:
            return 3
        found = measure(kind, Config(asked.model, asked.dim, Path(folder)), Data.load(asked.data), asked.threads)
    note = "; ".join(kind.notes[key] for key in ("", asked.model) if key in kind.notes)
    version = importlib.metadata.version(asked.peer)
    sys.stdout.write(json.dumps({**found, "version": version, "note": note}) + "\n")
    return 0


def imported(name: str) -> type[Peer]:
    """No thread starts meanwhile: deepctr-torch's asks the internet for news."""
    module, kind = PEERS[name]
    with mock.patch.object(threading.Thread, "start", lambda thread: None):
        found: type[Peer] = getattr(importlib.import_module(f"bench.peers.{module}"), kind)
    return found


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """They print and draw bars; stdout is for the line of JSON."""
    with Path(os.devnull).open("w") as sink, contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        yield


if __name__ == "__main__":
    sys.exit(main())
