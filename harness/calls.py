"""The command line called in-process: as a user types it, with everything it says."""

from __future__ import annotations

import io
import sys
import traceback
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from funnelcast.cli.main import main


@dataclass(frozen=True)
class Answer:
    """What a call came to."""

    code: int
    out: str
    err: str
    trace: str = ""
    """The traceback, where one escaped."""
    warned: tuple[str, ...] = ()
    """Warnings that our own code gave rise to."""


def call(*arguments: object) -> Answer:
    """Run `funnelcast ARGUMENTS` through its own `main`."""
    out, err, code, trace = io.StringIO(), io.StringIO(), 0, ""
    with (
        redirect_stdout(out),
        redirect_stderr(err),
        patch.object(sys, "argv", ["funnelcast", *map(str, arguments)]),
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:  # whatever else would be a traceback on the user's screen
            code, trace = 1, traceback.format_exc()
    ours = (warning for warning in caught if "funnelcast" in Path(warning.filename).parts)
    return Answer(code, out.getvalue(), err.getvalue(), trace, tuple(f"{w.filename}: {w.message}" for w in ours))
