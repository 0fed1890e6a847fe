"""A server under very many requests, wrong and slow ones among them, and under kills while it reloads."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import tempfile
import time
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
from numpy.random import default_rng

import funnelcast
from funnelcast.experiments.experiment import Experiment
from funnelcast.schema.dataset import Schema
from funnelcast.serving.predictor import load
from harness.load import Connections, post
from harness.server import Server, serving
from harness.show import say
from proofs.material import EXPERIMENT, RICH, small_log
from proofs.serve_kills import Client, survives

GROWTH: Final = 0.05
"""By which memory may grow after `SETTLED` requests."""
SETTLED: Final = 10_000
SLOW: Final = 20
"""Clients that send half of a request and wait."""
INPUTS: Final = (*RICH["features"], "scores")
ROWS, INFER = "/v1/rows", "/v2/models/funnel/infer"


class Case(NamedTuple):
    """A request and the answer that it has to have."""

    what: str
    request: bytes
    status: int
    p: list[float] | None = None
    """Of the last output, by row."""


def serve(*, small: bool, rows: int | None = None) -> bool:
    """A million requests (--rows) without an error of the server's or a wrong answer, in flat memory; 20 kills."""
    requests = rows or (2000 if small else 1_000_000)
    with tempfile.TemporaryDirectory() as name:
        folder, log = Path(name), small_log()
        bundles = trained(folder, log)
        holds = _answers_all(bundles[0], log, requests)
        client = Client(bundles, log.select(INPUTS).slice(0, 20))
        return survives(client, bundles, folder / "served", kills=2 if small else 20) and holds


def trained(folder: Path, log: pa.Table) -> list[Path]:
    """Two bundles with all kinds of inputs."""
    funnelcast.prepare(Schema.from_dict(RICH), folder / "table", train=log)
    for seed in (0, 1):
        experiment = Experiment.from_dict({**EXPERIMENT, "seed": seed})
        funnelcast.train(experiment, folder / "table", folder / f"run-{seed}", baselines=False)
    return [folder / f"run-{seed}/bundle" for seed in (0, 1)]


def cases(bundle: Path, log: pa.Table) -> list[Case]:
    """Right requests of 1 to 100 rows in every form, and wrong ones."""
    predictor, rng, found = load(bundle), default_rng(0), list[Case]()
    last = predictor.columns[-1]
    for size in (1, 2, 7, 100):
        rows = log.take(rng.integers(0, len(log), size))
        p = predictor.predict(rows)[last].to_pylist()
        columns = {name: rows[name].to_pylist() for name in INPUTS}
        found.append(Case(f"{size} rows by column", post(ROWS, _json({"columns": columns})), 200, p))
        by_row = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        found.append(Case(f"{size} rows by row", post(ROWS, _json({"rows": by_row})), 200, p))
        packed = gzip.compress(_json({"rows": by_row}))
        found.append(Case(f"{size} rows, compressed", post(ROWS, packed, content_encoding="gzip"), 200, p))
    first = by_row[0]
    wrong = {
        "no JSON": post(ROWS, b"{"),
        "a text for a number": post(ROWS, _json({"rows": [{**first, "age": "old"}]})),
        "lists of other lengths": post(ROWS, _json({"rows": [{**first, "tags": ["a"], "scores": [1.0, 2.0]}]})),
        "columns of other lengths": post(ROWS, _json({"columns": {**columns, "age": [1.0]}})),
        "a tensor of the wrong size": post(INFER, _json({"inputs": [_tensor("age", "FP64", [2], [1.0])]})),
        "an unknown tensor": post(INFER, _json({"inputs": [_tensor("height", "FP64", [1], [1.0])]})),
        "an unknown type": post(INFER, _json({"inputs": [_tensor("age", "FP8", [1], [1.0])]})),
        "cut bytes": _cut(),
    }
    found += [Case(what, request, 400) for what, request in wrong.items()]
    bomb = gzip.compress(bytes(100 << 20))
    found += [Case("a bomb", post(ROWS, bomb, content_encoding="gzip"), 413)]
    return found


def _json(said: Any) -> bytes:
    return json.dumps(said).encode()


def _tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def _cut() -> bytes:
    tensor = {"name": "age", "datatype": "FP64", "shape": [2], "parameters": {"binary_data_size": 16}}
    head = _json({"inputs": [tensor]})
    return post(INFER, head + bytes(9), inference_header_content_length=str(len(head)))


def _answers_all(bundle: Path, log: pa.Table, requests: int) -> bool:
    with serving(bundle, "--no-log-requests") as server, ExitStack() as slow:
        host, _, port = server.url.partition(":")
        for _ in range(SLOW):
            waiting = slow.enter_context(socket.create_connection((host, int(port))))
            waiting.sendall(post(ROWS, bytes(1000))[:-500])
        started, faults = time.perf_counter(), dict[str, int]()
        all_cases = cases(bundle, log)
        asyncio.run(_ask(server, all_cases, min(SETTLED, requests // 2), faults))
        before = _memory(server)
        asyncio.run(_ask(server, all_cases, requests - min(SETTLED, requests // 2), faults))
        after = _memory(server)
        seconds = time.perf_counter() - started
        say(f"{requests:,} requests of {len(all_cases)} kinds in {seconds:.0f} s beside {SLOW} clients that wait")
    growth = {who: after[who] / before[who] - 1 for who in before}
    said = ", ".join(f"{who} {before[who] / 1e6:.0f} MB and {grown:+.1%}" for who, grown in growth.items())
    say(f"memory after {min(SETTLED, requests // 2):,} requests, and what it grew by: {said}")
    for fault, times in faults.items():
        say(f"{times:,} times: {fault}")
    return not faults and max(growth.values()) <= GROWTH


async def _ask(server: Server, all_cases: list[Case], requests: int, faults: dict[str, int]) -> None:
    """Eight at a time; the bomb once in a thousand."""
    clients, numbers, usual = Connections(server.url), count(), all_cases[:-1]

    async def one_after_the_other() -> None:
        while (number := next(numbers)) < requests:
            case = all_cases[-1] if number % 1000 == 999 else usual[number % len(usual)]
            if fault := _fault(case, *await clients.ask(case.request)):
                faults[fault] = faults.get(fault, 0) + 1

    await asyncio.gather(*(one_after_the_other() for _ in range(8)))
    clients.close()


def _fault(case: Case, status: int, body: bytes) -> str:
    if status != case.status:
        return f"{case.what}: {status} for {case.status}: {body[:300]!r}"
    said = json.loads(body)
    if case.p is None:
        return "" if said["error"] else f"{case.what}: no message"
    last = [*said["columns"].values()][-1] if "columns" in said else [[*row.values()][-1] for row in said["rows"]]
    return "" if last == case.p else f"{case.what}: other probabilities"


def _memory(server: Server) -> dict[str, int]:
    """Bytes that the front and the scoring process have for themselves."""
    (scorer,) = server.children()
    return {who: _private(pid) for who, pid in (("front", server.process.pid), ("scoring process", scorer))}


def _private(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_"))
