"""`funnelcast`: the verbs, and what happens to errors."""

from __future__ import annotations

import atexit
import gc
import os
import sys

import typer

from funnelcast.cli import (
    adapt,
    benchmark,
    calibrate,
    compare,
    datasets,
    demo,
    doctor,
    evaluate,
    export,
    few_shot,
    predict,
    prepare,
    replay,
    report,
    search,
    serve,
    train,
    warm,
)
from funnelcast.errors import FunnelcastError

app = typer.Typer(
    help="Probabilities along a funnel: impression, click, conversion and beyond.\n\n"
    "The job: prepare a log, train on the table, evaluate the bundle, predict new rows. Try: funnelcast demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command()(demo.demo)
app.add_typer(datasets.app, name="datasets")
app.command()(prepare.prepare)
app.command()(doctor.doctor)
app.command()(train.train)
app.command()(evaluate.evaluate)
app.command()(calibrate.calibrate)
app.command()(compare.compare)
app.command()(predict.predict)
app.command()(serve.serve)
app.command()(replay.replay)
app.command()(export.export)
app.command()(adapt.adapt)
app.command()(few_shot.few_shot)
app.command()(benchmark.benchmark)
app.command()(search.search)
app.command()(report.report)
app.command()(warm.warm)


def main() -> None:
    """Exit 0 when all went well, 2 for a user's mistake, 1 for anything else."""
    os.environ.setdefault("GOMP_SPINCOUNT", "0")  # read when torch loads: idle math threads then yield the core
    gc.set_threshold(10_000)  # fewer searches for garbage among modules, which are none: half a second
    atexit.register(gc.freeze)  # nor is there any to look for at the end
    try:
        app(prog_name="funnelcast")
    except FunnelcastError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""))


def _fail(message: str) -> None:
    sys.stderr.write(f"error: {message}\n")
    sys.exit(2)
