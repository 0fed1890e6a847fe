"""A command killed at a moment, the next command on what is left, the same command again, and what must be equal."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from funnelcast.data.files import sha256
from harness.calls import call
from harness.cost import COMMAND

TIMES = ("seconds", "rows_per_s")
"""Of a line of log.jsonl: what may differ between two runs."""


@dataclass(frozen=True)
class Job:
    """A command whose outputs are named relative to the folder it runs in."""

    name: str
    arguments: tuple[object, ...]
    outputs: tuple[str, ...]
    next: Callable[[Path], tuple[object, ...]]
    """The arguments of the next command, on an output."""


@dataclass(frozen=True)
class Whole:
    """What the undisturbed run of a job came to."""

    content: dict[str, str]
    outputs: dict[str, dict[str, str]]
    begun: float
    """Seconds after which it had begun to write."""
    seconds: float


@dataclass(frozen=True)
class Kill:
    """One kill and what became of it."""

    job: str
    moment: float
    """Seconds after the start of the process."""
    late: bool
    """All was made already."""
    working: bool
    """It had begun to write."""
    checkpoint: bool
    """It had a checkpoint to go on from."""
    refused: int
    """Outputs and partial outputs that the next command refused."""
    problem: str = ""


def undisturbed(job: Job, case: Path) -> Whole:
    """Run a job to its end."""
    process, started, begun, said = _start(job, case), time.perf_counter(), 0.0, None
    while said is None:
        try:
            said = process.communicate(timeout=0.01)[1].decode()
        except subprocess.TimeoutExpired:
            begun = begun if any((case / "here").iterdir()) else time.perf_counter() - started
    assert process.returncode == 0, said
    seconds = time.perf_counter() - started
    return Whole(content(case), {name: content(case / "here" / name) for name in job.outputs}, begun, seconds)


def kills_of(job: Job, whole: Whole, folder: Path, number: int, rng: random.Random) -> Iterator[Kill]:
    """`number` kills: of several one before the undisturbed run wrote anything, and one in each of as many equal parts
    of what came after; one too late is drawn again."""
    parts = max(1, number - 1)
    size = (whole.seconds - whole.begun) / parts
    spans = [(whole.begun + i * size, whole.begun + (i + 1) * size) for i in range(parts)]
    for i, (first, last) in enumerate([(0.0, whole.begun), *spans][-number:]):
        for attempt in count():
            moment = rng.uniform(first, last)
            kill = kill_at(job, whole, folder / f"{job.name} {i} {attempt}", moment)
            yield kill
            if not kill.late:
                break
            first, last = first * 0.9, moment


def kill_at(job: Job, whole: Whole, case: Path, moment: float) -> Kill:
    """Kill a job at a moment, try what is left, call it again, and compare."""
    process = _start(job, case)
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        process.kill()
    process.communicate()
    late = content(case) == whole.content
    working = any((case / "here").iterdir())
    checkpoint = any(case.rglob("checkpoint/progress.json"))
    refused, problem = _next(job, whole, case)
    if not problem and not late:
        resumed = _start(job, case)
        said = resumed.communicate()[1].decode()
        problem = (
            f"exit {resumed.returncode}: {said}" if resumed.returncode else _difference(whole.content, content(case))
        )
    return Kill(job.name, moment, late, working, checkpoint, refused, problem)


def content(path: Path) -> dict[str, str]:
    """Every file at or below a path with its sha256, and every folder."""
    paths = [path] if path.is_file() else sorted(path.rglob("*"))
    return {str(each.relative_to(path)): _hash(each) for each in paths}


def _hash(path: Path) -> str:
    if path.is_dir():
        return "folder"
    if path.name != "log.jsonl":
        return sha256(path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return json.dumps([{name: value for name, value in line.items() if name not in TIMES} for line in lines])


def _start(job: Job, case: Path) -> subprocess.Popen[bytes]:
    """The job in `case/here`; whatever it puts aside for the time being lies in the case too."""
    for name in ("here", "tmp"):
        (case / name).mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [COMMAND, *map(str, job.arguments)],
        cwd=case / "here",
        env={**os.environ, "TMPDIR": str(case / "tmp")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def _next(job: Job, whole: Whole, case: Path) -> tuple[int, str]:
    """How many outputs and partial ones the next command refused, and one that it took though it is not whole."""
    refused = 0
    for name in job.outputs:
        output = case / "here" / name
        for path in (output, *output.parent.glob(f".{output.name}.partial-*")):
            if content(path) == whole.outputs[name] and path.exists():
                continue
            answer = call(*job.next(path))
            if answer.code != 2 or answer.trace:
                return refused, f"{path.name} is not whole, yet the next command says: {answer}"
            refused += 1
    return refused, ""


def _difference(whole: dict[str, str], found: dict[str, str]) -> str:
    """How the content after a resume differs; empty where it does not."""
    more, less = sorted(found.keys() - whole), sorted(whole.keys() - found)
    other = sorted(name for name in whole.keys() & found if whole[name] != found[name])
    said = {"left over": more, "lacking": less, "different": other}
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in said.items() if names)
