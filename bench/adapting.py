"""What adapting costs: the time of it, the size of a delta, and scoring rows of very many deltas over one base.

On Ali-CCP's 18 fields, 1,283,090 ids, with the paper's sizes; 256 labelled rows.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from bench.training import FUNNEL, RATES, VOCABULARIES, build, draw
from funnelcast.data.encoder import Encoder
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.schema.dataset import Schema
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.predictor import Predictor
from funnelcast.training.adapting import Adapting, Starting
from funnelcast.training.losses import LossConfig
from harness.show import show

SETTINGS = {"top": Adapting(prior=0.0), "all": Adapting(inner="all", prior=0.0)}
SUPPORT, ROUNDS = 256, 5


class Scored(NamedTuple):
    """Rows that were scored."""

    seconds: float
    grown: float
    """By how many MB the process's peak memory rose."""


def main() -> int:
    """Prints adapting by what adapts, then scoring by the number of deltas."""
    parser = argparse.ArgumentParser(prog="scripts/bench adapting", description=__doc__)
    parser.add_argument("--models", nargs="+", default=["man"])
    parser.add_argument("--embedding", nargs="+", type=int, default=[5, 16])
    parser.add_argument("--deltas", nargs="+", type=int, default=[1, 1000])
    parser.add_argument("--rows", type=int, default=100_000, help="that are scored")
    args = parser.parse_args()
    torch.set_num_threads(1)
    adapted, scored = [], []
    for dim in args.embedding:
        for name in args.models:
            predictor = Predictor(bundle_of(name, dim))
            with tempfile.TemporaryDirectory() as folder:
                base = _bytes(predictor, Path(folder))
                adapted += [(name, dim, what, *_adapted(predictor, c, base)) for what, c in SETTINGS.items()]
            scored += [(name, dim, *row) for row in _scored(predictor, args.deltas, args.rows)]
    show(("model", "embedding", "adapts", f"s for {SUPPORT} rows", "delta, kB", "of the base"), adapted)
    show(("model", "embedding", "deltas", f"s for {args.rows:,} rows", "peak memory grew, MB"), scored)
    return 0


def bundle_of(name: str, dim: int) -> Bundle:
    """An untrained network, which knows the raw values 1 … of every field."""
    names = [f"field_{i}" for i in range(len(VOCABULARIES))]
    features = dict.fromkeys(names, "categorical")
    schema = Schema.from_dict({"name": "ali-ccp", "funnel": "click; conversion after click", "features": features})
    sizes = dict(zip(names, VOCABULARIES, strict=True))
    encoder = Encoder(schema, {n: Vocabulary(pa.array(range(1, size))) for n, size in sizes.items()}, {})
    experiment: dict[str, Any] = {"model": {"name": name, "embedding_dim": dim}, "keep_negatives": 1.0}
    starting = Starting(LossConfig(), (1.0, 1.0), None, (0.0, 0.0), {})
    model = build(name, dim)
    assert encoder.inputs.sizes == model.embedding.all_tables()[0].sizes and schema.funnel == FUNNEL
    return Bundle(model, encoder, experiment, {}, list(RATES), {}, starting)


def rows_of(number: int, campaigns: int, seed: int) -> pa.Table:
    """Raw rows with labels; of each campaign in rotation."""
    drawn = draw(number, seed)
    assert drawn.labels is not None
    columns: dict[str, Any] = {f"field_{i}": drawn.ids[:, i] for i in range(drawn.ids.shape[1])}
    columns |= {name: drawn.labels[:, t] for t, name in enumerate(FUNNEL.names)}
    return pa.table({**columns, "campaign": np.arange(number) % campaigns})


def _bytes(predictor: Predictor, folder: Path) -> int:
    predictor.bundle.save(folder / "bundle")
    return sum(path.stat().st_size for path in (folder / "bundle").rglob("*") if path.is_file())


def _adapted(predictor: Predictor, config: Adapting, base: int) -> tuple[str, str, str]:
    rows, times = rows_of(SUPPORT, 1, 1), list[float]()
    for _ in range(ROUNDS):
        seconds, delta = _timed(lambda: predictor.adapt(rows, config))
        times.append(seconds)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.safetensors"
        delta.save(path)
        size = path.stat().st_size
    return f"{median(times):.2f}", f"{size / 1e3:,.0f}", f"{size / base:.1%}"


def _scored(predictor: Predictor, deltas: list[int], number: int) -> list[tuple[str, ...]]:
    """Of no deltas first."""
    found = [("none", _score(predictor, rows_of(number, 1, 2)))]
    for count in deltas:
        rows = rows_of(SUPPORT, 1, 3)
        one = predictor.adapt(rows, Adapting(prior=0.0, learning_rate=0.001, steps=1), {"campaign": "0"})
        assert not one.is_empty
        made = [_copy(one, str(i)) for i in range(count)]
        found.append((f"{count:,}", _score(predictor.with_deltas(made), rows_of(number, count, 2))))
    return [(name, f"{scored.seconds:.2f}", f"{scored.grown:,.0f}") for name, scored in found]


def _copy(delta: Any, campaign: str) -> Any:
    """With tensors of its own, as another campaign's would be."""
    from dataclasses import replace

    return replace(delta, key={"campaign": campaign}, changes={n: t.clone() for n, t in delta.changes.items()})


def _score(predictor: Predictor, rows: pa.Table) -> Scored:
    predictor.predict(rows.slice(0, 1000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = median(_timed(lambda: predictor.predict(rows))[0] for _ in range(3))
    return Scored(seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3)


def _timed(run: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = run()
    return time.perf_counter() - started, result


if __name__ == "__main__":
    sys.exit(main())
