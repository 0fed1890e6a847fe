"""Time and peak memory of a command, measured from a small process: what starts a program counts into its peak."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

COMMAND = str(Path(sys.executable).with_name("funnelcast"))


@dataclass(frozen=True)
class Cost:
    """What a command took."""

    seconds: float
    resident: int
    """Bytes at the peak."""


def cost(*arguments: object, one_core: bool = False) -> Cost:
    """Run `funnelcast ARGUMENTS` as a process of its own, on one core or on all."""
    cores = sorted(os.sched_getaffinity(0))
    command = [sys.executable, "-m", "harness.cost", json.dumps(cores[:1] if one_core else cores)]
    run = subprocess.run([*command, COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=True)
    return Cost(**json.loads(run.stdout))


def main() -> int:
    """Runs the command after the list of cores, and prints what it took as JSON."""
    os.sched_setaffinity(0, json.loads(sys.argv[1]))
    started = time.perf_counter()
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ, file_actions=quiet)
    _, status, usage = os.wait4(child, 0)
    sys.stdout.write(json.dumps(asdict(Cost(time.perf_counter() - started, usage.ru_maxrss * 1024))))
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
