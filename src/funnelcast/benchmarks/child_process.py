"""Run a module in a process that does not outlive the one that started it, from its first moments on."""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1


def child_command(module: str, *arguments: object) -> list[str]:
    """What starts `module` with these arguments as a process that is killed when the calling one ends."""
    return [sys.executable, "-m", __name__, str(os.getpid()), module, *map(str, arguments)]


def main(parent: int, module: str) -> None:
    """Runs `module` as a command, unless the process `parent` has ended already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(f"the process that started {module} has ended before it began")
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    wanted = sys.argv[1:3]
    sys.argv[1:3] = []
    main(int(wanted[0]), wanted[1])
