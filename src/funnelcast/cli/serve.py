"""`funnelcast serve`: a bundle behind HTTP and gRPC."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from funnelcast.errors import FunnelcastError
from funnelcast.runtime.extras import require_extra

KEYS = "FUNNELCAST_API_KEYS"


def serve(
    bundle: Annotated[Path, typer.Argument(help="A trained bundle.")],
    deltas: Annotated[Path | None, typer.Option(help="A delta of `funnelcast adapt`, or a folder of them.")] = None,
    host: Annotated[
        str, typer.Option(help="Where to listen; 0.0.0.0 for all of the machine's addresses.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free; the log says which.")] = 8080,
    grpc_port: Annotated[int | None, typer.Option(min=0, max=65535, help="Serve gRPC as well; 0 for any.")] = None,
    name: Annotated[str, typer.Option(help="Of the model, in addresses.")] = "funnel",
    processes: Annotated[int, typer.Option(min=1, help="That score, each with the bundle in its memory.")] = 1,
    precision: Annotated[str, typer.Option(help="Of matrix products: float32 or bfloat16.")] = "float32",
    api_keys: Annotated[
        Path | None, typer.Option(help=f"File with an API key a line; also {KEYS}, parted by commas.")
    ] = None,
    certificate: Annotated[Path | None, typer.Option(help="With its chain, PEM: requests are encrypted.")] = None,
    key: Annotated[Path | None, typer.Option(help="Private key of the certificate, PEM.")] = None,
    client_ca: Annotated[
        Path | None, typer.Option(help="PEM: clients need a certificate of these authorities.")
    ] = None,
    queue: Annotated[int, typer.Option(min=1, help="Requests that may wait; more are answered with 503.")] = 64,
    deadline: Annotated[float, typer.Option(min=0.001, help="Seconds that a request may wait.")] = 10.0,
    max_rows: Annotated[int, typer.Option(min=1, help="Rows of a request.")] = 20_000,
    max_body: Annotated[int, typer.Option(min=1, help="MiB of a request, after decompression.")] = 16,
    shadow: Annotated[
        Path | None, typer.Option(help="A second bundle, which scores a sample of the requests after their answers.")
    ] = None,
    shadow_share: Annotated[float, typer.Option(help="Of requests that the shadow scores, above 0 and up to 1.")] = 0.1,
    repository: Annotated[bool, typer.Option("--repository", help="Let clients load and unload the model.")] = False,
    log_requests: Annotated[bool, typer.Option(help="A line of the log for each request.")] = True,
    log_rows: Annotated[
        Path | None, typer.Option(help="Folder for Parquet files of requests' rows; see `funnelcast replay`.")
    ] = None,
    log_share: Annotated[float, typer.Option(min=0, max=1, help="Of requests whose rows are logged.")] = 0.01,
    log_seconds: Annotated[float, typer.Option(min=0.001, help="Within which logged rows are written.")] = 60.0,
) -> None:
    """Serve probabilities: the Open Inference Protocol over HTTP and gRPC, and plain rows as JSON or Arrow.

    Example: [bold]funnelcast serve run/bundle[/], then
    [bold]curl localhost:8080/v1/rows -d '{"rows": [{"user": 17, "item": 3}]}'[/]

    Ready when /v2/health/ready answers 200. SIGHUP loads what the folder has then, without a pause; SIGTERM ends it.
    """
    if grpc_port is not None:
        for library in ("grpc", "google.protobuf"):
            require_extra(library, "serve-grpc", "--grpc-port")
    try:
        from funnelcast.server.address import Address
        from funnelcast.server.run import serve as run
    except ImportError as error:
        raise FunnelcastError(f"{error.name} is not installed; for serving: pip install 'funnelcast[serve]'") from None
    from funnelcast.server.settings import MIB, Limits, LogRows, Scoring, Settings, ShadowSettings

    if (certificate is None) != (key is None) or (client_ca is not None and certificate is None):
        raise FunnelcastError("an encrypted server needs --certificate and --key, and --client-ca only with them")
    if not 0 < shadow_share <= 1:
        raise FunnelcastError(f"--shadow-share is {shadow_share:g}; give a share of requests above 0 and up to 1")
    logged = None if log_rows is None else LogRows(log_rows, log_share, log_seconds)
    settings = Settings(
        scoring=Scoring(bundle, name, deltas, precision, max_rows, logged),
        limits=Limits(max_body * MIB, queue, deadline),
        processes=processes,
        keys=keys_of(api_keys),
        repository=repository,
        log_requests=log_requests,
        shadow=None if shadow is None else ShadowSettings(shadow, shadow_share),
    )
    run(settings, Address(host, port, grpc_port, certificate, key, client_ca))


def keys_of(path: Path | None) -> tuple[str, ...]:
    """The keys of a file, a line each, and of the environment. Raises FunnelcastError for a file that has none."""
    found = [key.strip() for key in os.environ.get(KEYS, "").split(",")]
    if path is not None:
        own = [line.strip() for line in path.read_text().splitlines()]
        if not any(own):
            raise FunnelcastError(f"{path} has no API key; write one a line")
        found += own
    return tuple(filter(None, found))
