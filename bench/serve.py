"""Latency and rows/s of `funnelcast serve`, beside `predict` in one process, and at a reload.

Ali-CCP's 18 fields and 1,283,090 ids with the paper's sizes; a request has a user's features once, and candidates. The
server has one core, and requests come from another one at the times of a Poisson process; latency counts from the time
at which a request was to be sent.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from bench.adapting import bundle_of, rows_of
from bench.candidates import FIELDS, OF_CANDIDATE
from funnelcast.serving.predictor import load
from harness.load import Sent, poisson, post, saturated
from harness.server import Server, serving
from harness.show import say, show

LOADS: Final = (0.5, 0.8, 0.95)
REQUESTS: Final = 200
"""That differ; they are sent in rotation."""

Request = dict[str, NDArray[np.int64]]
"""Columns of one row for a user's features, and of all candidates."""


def main() -> int:
    """Prints a table for each number of candidates."""
    parser = argparse.ArgumentParser(prog="scripts/bench serve", description=__doc__)
    parser.add_argument("--model", default="man")
    parser.add_argument("--embedding", type=int, default=5)
    parser.add_argument("--candidates", nargs="+", type=int, default=[100, 500])
    parser.add_argument("--form", choices=FORMS, default="binary", help="of requests and answers")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each load")
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        parser.error("it takes two cores, one for the server and one for the client")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "bundle"
        replace(bundle_of(args.model, args.embedding), starting=None).save(folder)
        os.sched_setaffinity(0, cores[:1])
        started = time.perf_counter()
        with serving(folder, "--no-log-requests") as server:
            say(f"ready after {time.perf_counter() - started:.1f} s")
            for candidates in args.candidates:
                requests = [_drawn(candidates, seed) for seed in range(REQUESTS)]
                os.sched_setaffinity(0, cores[:1])
                alone = _predicted(folder, requests)
                os.sched_setaffinity(0, cores[-1:])
                _measure(server, [FORMS[args.form](request) for request in requests], candidates, alone, args.seconds)
    return 0


def _drawn(candidates: int, seed: int) -> Request:
    rows = rows_of(candidates, 1, seed).to_pydict()
    return {name: np.array(rows[name][: None if name in OF_CANDIDATE else 1]) for name in FIELDS}


def _predicted(folder: Path, requests: Sequence[Request]) -> float:
    """Rows/s of `predict` with the same columns: the median request, after a turn that warms up."""
    predictor, took = load(folder), list[float]()
    for request in [*requests, *requests]:
        user = {name: column[0] for name, column in request.items() if name not in OF_CANDIDATE}
        started = time.perf_counter()
        predictor.predict({name: request[name] for name in OF_CANDIDATE}, shared=user)
        took.append(time.perf_counter() - started)
    return len(requests[0][OF_CANDIDATE[0]]) / median(took[len(requests) :])


def _measure(server: Server, requests: Sequence[bytes], candidates: int, alone: float, seconds: float) -> None:
    asyncio.run(saturated(server.url, requests, 2))
    most = asyncio.run(saturated(server.url, requests, min(seconds, 20)))
    say(f"\n{candidates} candidates: {most:,.0f} requests/s at saturation, {most * candidates:,.0f} rows/s,")
    say(f"{most * candidates / alone:.0%} of the {alone:,.0f} rows/s of `predict` in one process")
    found = [(f"{load:.0%}", asyncio.run(poisson(server.url, requests, load * most, seconds))) for load in LOADS]
    found.append(("50%, while it reloads", asyncio.run(_reloading(server, requests, 0.5 * most))))
    rows = [(load, f"{len(sent):,}", *_times(sent), sum(each.status != 200 for each in sent)) for load, sent in found]
    show(("of saturation", "requests", "ms: p50", "p90", "p99", "p99.9", "longest", "not answered"), rows)


def _times(sent: Sequence[Sent]) -> list[str]:
    quantiles = np.quantile([1e3 * each.seconds for each in sent], (0.5, 0.9, 0.99, 0.999, 1))
    return [f"{ms:.2f}" for ms in quantiles]


async def _reloading(server: Server, requests: Sequence[bytes], rate: float, times: int = 3) -> list[Sent]:
    """Those that were due between the signal and the time when another process had taken over."""
    found = list[Sent]()
    for seed in range(times):
        sending = asyncio.create_task(poisson(server.url, requests, rate, 40, seed))
        await asyncio.sleep(2)
        begun = time.perf_counter()
        server.process.send_signal(signal.SIGHUP)
        await asyncio.to_thread(server.until, "ready")
        ended = time.perf_counter()
        sent = await sending
        if sent[-1].due < ended:
            raise SystemExit("the reload took longer than requests were sent")
        found += [each for each in sent if begun <= each.due <= ended]
    return found


def _binary(request: Request) -> bytes:
    tensors = [(name, column, column.tobytes()) for name, column in request.items()]
    inputs = [
        {"name": name, "datatype": "INT64", "shape": [len(column)], "parameters": {"binary_data_size": len(raw)}}
        for name, column, raw in tensors
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    body = head + b"".join(raw for _, _, raw in tensors)
    return post("/v2/models/funnel/infer", body, inference_header_content_length=str(len(head)))


def _json(request: Request) -> bytes:
    inputs = [
        {"name": name, "datatype": "INT64", "shape": [len(column)], "data": column.tolist()}
        for name, column in request.items()
    ]
    return post("/v2/models/funnel/infer", json.dumps({"inputs": inputs}).encode())


def _rows(request: Request) -> bytes:
    said: dict[str, Any] = {
        "shared": {name: int(column[0]) for name, column in request.items() if name not in OF_CANDIDATE},
        "columns": {name: request[name].tolist() for name in OF_CANDIDATE},
    }
    return post("/v1/rows", json.dumps(said).encode())


FORMS: Final[dict[str, Callable[[Request], bytes]]] = {"binary": _binary, "json": _json, "columns": _rows}


if __name__ == "__main__":
    sys.exit(main())
