"""`funnelcast prepare`: a raw log to a prepared table."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from funnelcast.cli.console import AsJson, Replace, out, progress_bars, show, show_json

_VOCABULARY = "vocabulary "  # how its counts begin
_KNOWN = {
    "ali-ccp": "ali-ccp has no numbers whose scaling could be kept",
    "ali-ccp-full": "ali-ccp-full has no numbers whose scaling could be kept",
    "aliexpress": "aliexpress is one fixed log, scaled by itself; leave it out",
}
"""The data sets that stand in place of a schema, and why none is prepared for a bundle to retrain."""


def prepare(
    schema: Annotated[
        str, typer.Argument(help="A schema file, or [bold]ali-ccp[/], [bold]ali-ccp-full[/], [bold]aliexpress[/].")
    ],
    train: Annotated[Path, typer.Option(help="Training rows: .parquet, .csv, .csv.gz; for ali-ccp the skeleton file.")],
    to: Annotated[Path, typer.Option("--out", help="Folder of the table.")],
    test: Annotated[Path | None, typer.Option(help="Test rows; else split off as the schema says.")] = None,
    dev: Annotated[Path | None, typer.Option(help="Dev rows; else split off as the schema says.")] = None,
    init: Annotated[
        Path | None, typer.Option(help="A bundle to retrain: its scaling of numbers and its ids stay.")
    ] = None,
    max_bad: Annotated[float, typer.Option(min=0, max=1, help="Share of bad rows above which it stops.")] = 1e-4,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Make a prepared table of a raw log.

    Example: [bold]funnelcast prepare schema.toml --train log.parquet --out table[/]

    Bad rows go to OUT.quarantine.csv with line and reason. Common features of ali-ccp are found beside the skeletons;
    ali-ccp-full keeps all 23 fields, multi-values and weights, where ali-ccp has the 18 of AITM's processing;
    aliexpress takes a country's train.csv and test.csv, as MTReclib makes them.
    """
    with progress_bars(as_json) as progress:
        manifest = _prepare(schema, train, dev, test, to, init, max_bad, replace, progress)
    if as_json:
        show_json(manifest)
    else:
        show_manifest(to, manifest)


def _prepare(
    schema: str,
    train: Path,
    dev: Path | None,
    test: Path | None,
    to: Path,
    init: Path | None,
    max_bad: float,
    replace: bool,
    progress: Any,
) -> dict[str, Any]:
    if schema in _KNOWN:
        if dev is not None:
            raise typer.BadParameter(f"{schema} takes its dev rows from the training file", param_hint="--dev")
        if init is not None:
            raise typer.BadParameter(_KNOWN[schema], param_hint="--init")
        return _preparation(schema)(train, test, to, max_bad=max_bad, replace=replace, progress=progress)
    from funnelcast.data.log.prepare import prepare as prepare_log
    from funnelcast.data.log.sources import KINDS
    from funnelcast.errors import ConfigError, Fault
    from funnelcast.schema.config import require_file
    from funnelcast.schema.dataset import Schema

    if kind := next((kind for kind in KINDS if schema.lower().endswith(kind)), None):
        raise ConfigError(
            [
                Fault(
                    schema,
                    f"is a log ({kind}), not a schema",
                    f"write: prepare SCHEMA.toml --train {schema} --out {to}",
                )
            ]
        )
    require_file(Path(schema), _KNOWN)
    declared = Schema.from_toml(schema)
    return prepare_log(
        declared,
        to,
        train=train,
        dev=dev,
        test=test,
        init=_encoder_of(init) if init is not None else None,
        max_bad=max_bad,
        replace=replace,
        progress=progress,
    )


def _preparation(name: str) -> Callable[..., dict[str, Any]]:
    """Of a data set in `_KNOWN`; imported when it is needed."""
    if name.startswith("ali-ccp"):
        from funnelcast.data.datasets.aliccp.prepare import prepare_aliccp

        return partial(prepare_aliccp, schema={"ali-ccp": "aliccp-aitm", "ali-ccp-full": "aliccp-full"}[name])
    from funnelcast.data.datasets.aliexpress.prepare import prepare_aliexpress

    return prepare_aliexpress


def _encoder_of(bundle: Path) -> Any:
    from funnelcast.serving.bundle import Bundle

    return Bundle.load(bundle).encoder


def show_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Rows of each part, and what was counted on the way."""
    show([(part, f"{rows:,}") for part, rows in manifest["rows"].items()], ("part", "rows"), f"Prepared {folder}")
    counts = dict(manifest["counts"])
    sizes = [name for name in counts if name.startswith(_VOCABULARY)]
    sizes_text = [_size_text(name.removeprefix(_VOCABULARY), counts.pop(name), counts) for name in sizes]
    words = {"broken": "rows that contradict the funnel", "quarantined": f"listed in {folder.name}.quarantine.csv"}
    for reason, count in counts.items():
        if count:
            out.print(f"  {words.get(reason, reason)}: {count:,}")
    if sizes_text:
        out.print(f"  ids of each vocabulary, the unknown one included: {', '.join(sizes_text)}")


def _size_text(vocabulary: str, size: int, counts: dict[str, int]) -> str:
    rare = counts.pop(f"rare ids of {vocabulary}", 0)
    return f"{vocabulary} {size:,}" + (f" ({rare:,} rarer than min_count)" if rare else "")
