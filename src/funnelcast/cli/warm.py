"""`funnelcast warm`: compile ahead."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from funnelcast.cli.console import AsJson, out, progress_bars, show_json


def warm(
    to: Annotated[Path | None, typer.Option("--out", help="Folder for the compiled code, for NUMBA_CACHE_DIR.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compile all kernels ahead, which the first runs on a machine do otherwise: a step of an image's build.

    Example: [bold]funnelcast warm[/]

    The code fits this kind of processor and this version; other processors compile their own. It is kept with the
    package, or in the user's cache folder where the package is read-only. With --out, set NUMBA_CACHE_DIR to that
    folder where it is to be used; it may be read-only there.
    """
    if to is not None:
        os.environ["NUMBA_CACHE_DIR"] = str(to.resolve())  # before numba is imported
    from funnelcast.errors import FunnelcastError
    from funnelcast.experiments.warm import warm as compile_all
    from funnelcast.runtime.kernel_cache import writable

    folder = writable()
    if folder is None or (to is not None and folder != to.resolve()):
        where = to or "neither the package's folder nor the user's cache folder"
        raise FunnelcastError(f"{where} cannot be written to; name another folder by --out")
    with progress_bars(as_json) as progress:
        compile_all(progress)
    files = sum(1 for _ in folder.rglob("*.nbc"))
    if as_json:
        show_json({"folder": str(folder), "kernels": files})
    else:
        out.print(f"{files} kernels are compiled in {folder}")
