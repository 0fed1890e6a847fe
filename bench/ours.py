"""funnelcast on the work that the peers do: prints a line of JSON. `python -m bench.ours --help`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.floor import Floor, products_of
from bench.peers.work import (
    BATCH,
    EXPERT,
    EXPERTS,
    FUNNEL_TOWER,
    LEARNING_RATE,
    OWN,
    SHARED,
    TOWER,
    Data,
    exact_auc,
    rates,
    timed,
)
from bench.turns import scoring, training
from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns
from funnelcast.data.encoder import InputSpec
from funnelcast.data.loader import generator_of
from funnelcast.evaluation.score import score
from funnelcast.layers.mode import HAS_BFLOAT16, Precision
from funnelcast.models.network import FunnelModel
from funnelcast.models.registry import recipe_of
from funnelcast.schema.funnel import Funnel
from funnelcast.training.course import Plan
from funnelcast.training.losses import LossConfig, build_loss_weights
from funnelcast.training.optimizers import OptimizerConfig
from funnelcast.training.stages import Stage
from funnelcast.training.trainer import Trainer

FUNNEL = Funnel.parse("click; conversion after click")
RATES = (0.04, 0.002)
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16") if HAS_BFLOAT16 else ("float32",)
TURNS = 11
SCORED = 32_768
"""Rows of a call in scoring, in turns with the floor."""
_WITH_EXPERTS: dict[str, Any] = {"expert": EXPERT, "tower": TOWER, "tower_dropout": []}
_LEVEL: dict[str, Any] = {"shared_experts": SHARED, "experts_per_step": OWN, "levels": 1}
SETTINGS: dict[str, dict[str, Any]] = {
    "mmoe": {**_WITH_EXPERTS, "experts": EXPERTS},
    "omoe": {**_WITH_EXPERTS, "experts": EXPERTS},
    "ple": {**_WITH_EXPERTS, **_LEVEL},
    "man": {**_WITH_EXPERTS, **_LEVEL},
    "shared_bottom": _WITH_EXPERTS,
    "esmm": {"tower": FUNNEL_TOWER, "tower_dropout": []},
    "aitm": {"tower": FUNNEL_TOWER, "tower_dropout": [], "calibrator": 0.0},
}
"""The common architecture, without dropout, as the peers have it."""


def main() -> int:
    """Trains one epoch, scores all rows; both also in turns with the floor of the matrix products."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", choices=SETTINGS, required=True)
    parser.add_argument("--dim", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    sys.stdout.write(json.dumps(measure(asked.model, asked.dim, Data.load(asked.data), asked.threads)) + "\n")
    return 0


def measure(
    name: str, dim: int, data: Data, threads: int, precisions: Sequence[Precision] = PRECISIONS
) -> dict[str, Any]:
    """The trainer's own epoch, and the scoring of all rows from columns to probabilities; shares of the floor are of
    both once more, in turns with it. Those of bfloat16 are inside."""
    shapes = products_of(_built(name, dim, data), Batch.of(columns_of(data.take(slice(BATCH // 2)))))
    floors = {what: Floor(shapes, BATCH // 2, threads=threads, backward=what == "train") for what in ("train", "score")}
    found, *halves = (
        _measured(name, dim, data, threads, each) | _in_turns(name, dim, data, threads, each, floors)
        for each in precisions
    )
    return {**found, **({"bfloat16": halves[0]} if halves else {})}


def _in_turns(
    name: str, dim: int, data: Data, threads: int, precision: Precision, floors: dict[str, Floor]
) -> dict[str, Any]:
    model, rows = _built(name, dim, data), columns_of(data.take(slice(SCORED)))
    trained = columns_of(data.split()[0])
    plan = _plan(threads, precision)
    weights, few = build_loss_weights(plan.loss, RATES), _few(trained)
    own = {
        "train": training(model, weights, FUNNEL, plan, trained, few, TURNS, floors["train"]),
        "score": scoring(model, rows, TURNS, floors["score"], threads, precision),
    }
    return {key: {what: found[key] for what, found in own.items()} for key in ("floor", "share")}


def _measured(name: str, dim: int, data: Data, threads: int, precision: Precision) -> dict[str, Any]:
    train, test = data.split()
    _train(_built(name, dim, data), columns_of(train.take(slice(8 * BATCH))), threads, precision)
    model = _built(name, dim, data)
    trained, seconds = timed(lambda: _train(model, columns_of(train), threads, precision))
    passes = 1 + len(data) // 50_000  # a pass of a small model is shorter than the machine can tell
    scored, scores = timed(lambda: [_scores(model, data, threads, precision) for _ in range(passes)][-1])
    return {
        "train": {**rates(len(train), trained, threads), "rows_per_s": len(train) / seconds},
        "score": rates(passes * len(data), scored, threads),
        "auc": exact_auc(test, scores[len(train) :].astype(np.float64)),
    }


def _scores(model: FunnelModel, data: Data, workers: int, precision: Precision) -> NDArray[np.float32]:
    """Probabilities (N, 2)."""
    return np.exp(score(model, columns_of(data), precision=precision, workers=workers)[0])


def columns_of(data: Data) -> Columns:
    """The rows as a prepared table has them."""
    return Columns(data.ids, np.empty((len(data), 0), np.float32), {}, data.labels)


def _built(name: str, dim: int, data: Data) -> FunnelModel:
    sizes = dict(zip(data.names(), data.vocabulary.tolist(), strict=True))
    inputs = InputSpec(tuple((n, n) for n in sizes), sizes, ())
    model = recipe_of({"name": name, "embedding_dim": dim, **SETTINGS[name]}).build(inputs, FUNNEL)
    assert isinstance(model, FunnelModel), f"{name} is no network"
    model.reset("xavier_uniform", generator_of(0))
    return model


def _train(model: FunnelModel, train: Columns, workers: int, precision: Precision) -> float:
    """Seconds of an epoch."""
    plan = _plan(workers, precision)
    with tempfile.TemporaryDirectory() as folder:
        Trainer(model, build_loss_weights(plan.loss, RATES), FUNNEL, plan, Path(folder)).run(train, _few(train))
        line: dict[str, Any] = json.loads((Path(folder) / "log.jsonl").read_text())
    return float(line["seconds"])


def _plan(workers: int, precision: Precision) -> Plan:
    config = OptimizerConfig(learning_rate=LEARNING_RATE, batch_size=BATCH, l2=0.0, precision=precision)
    return Plan(LossConfig(), config, (Stage(epochs=1),), seed=0, workers=workers)


def _few(train: Columns) -> Columns:
    """Rows of all kinds, to be measured after an epoch."""
    assert train.labels is not None
    positive = np.argsort(-train.labels.sum(1), kind="stable")[:64]
    return train.take(np.concatenate([positive, np.arange(64)]))


if __name__ == "__main__":
    sys.exit(main())
