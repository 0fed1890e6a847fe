"""One peer on one model, for `bench.rival`: it is told by lines what to do, and prints one of JSON when that is done.

`python -m bench.peers.measure --help`, in the peers' environment.
"""

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
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from bench.peers.peer import Config, Peer, works
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
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_num_interop_threads(1)
    kind = imported(args.peer)
    if args.model not in kind.models:
        return 3
    note = "; ".join(kind.notes[key] for key in ("", args.model) if key in kind.notes)
    what = {"version": importlib.metadata.version(args.peer), "note": note}
    with tempfile.TemporaryDirectory() as folder:
        work = works(kind, Config(args.model, args.dim, Path(folder)), Data.load(args.data))
        run: Callable[[], Any] = dict
        for word in map(str.strip, sys.stdin):
            began = time.process_time()
            with quiet():
                if word == "prepare":
                    run = next(work)
                else:
                    run()
            sys.stdout.write(json.dumps({**what, "cpu": time.process_time() - began}) + "\n")
            sys.stdout.flush()
    return 0


def imported(name: str) -> type[Peer]:
    """No thread starts meanwhile: deepctr-torch's asks the internet for news."""
    module, kind = PEERS[name]
    with mock.patch.object(threading.Thread, "start", lambda thread: None):
        found: type[Peer] = getattr(importlib.import_module(f"bench.peers.{module}"), kind)
    return found


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """They print and draw bars; stdout is for lines of JSON."""
    with Path(os.devnull).open("w") as sink, contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        yield


if __name__ == "__main__":
    sys.exit(main())
