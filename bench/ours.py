"""funnelcast on the work that the peers do, interleaved with them: prints a line of JSON. `python -m bench.ours -h`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from bench.floor import Floor, products_of
from bench.interleaved import PRECISIONS, scoring, training
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
    timed,
)
from bench.rival import Rival
from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns
from funnelcast.data.encoder import InputSpec
from funnelcast.data.loader import generator_of
from funnelcast.models.network import FunnelModel
from funnelcast.ops import Precision
from funnelcast.registry import recipe_of
from funnelcast.schema.funnel import Funnel
from funnelcast.training.losses import LossConfig, build_loss_weights
from funnelcast.training.optimizers import OptimizerConfig
from funnelcast.training.stage_run import Plan
from funnelcast.training.stages import Stage

FUNNEL = Funnel.parse("click; conversion after click")
RATES = (0.04, 0.002)
WORK = ("train", "score")
ROUNDS = 11
SCORED = 32_768
"""Rows of a call in scoring, interleaved with the floor."""
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
    """Training and scoring, interleaved with the floor of the matrix products, and with peers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", choices=SETTINGS, required=True)
    parser.add_argument("--dim", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peers", nargs="*", default=[])
    parser.add_argument("--python", help="with the peers installed")
    args = parser.parse_args()
    torch.set_num_threads(1)
    common = ["--data", str(args.data), "--model", args.model, "--dim", str(args.dim)]
    common += ["--threads", str(args.threads)]
    with ExitStack() as stack:
        rivals = {
            peer: stack.enter_context(Rival([args.python, "-m", "bench.peers.measure", "--peer", peer, *common]))
            for peer in args.peers
        }
        found = measure(args.model, args.dim, Data.load(args.data), args.threads, rivals=rivals)
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


def measure(
    name: str,
    dim: int,
    data: Data,
    threads: int,
    precisions: Sequence[Precision] = PRECISIONS,
    rivals: Mapping[str, Rival] = MappingProxyType({}),
) -> dict[str, Any]:
    """By the trainer's own epochs, and from columns to probabilities; rivals take turns with the first precision. Those
    of bfloat16 are inside."""
    shapes = products_of(_built(name, dim, data), Batch.of(columns_of(data.take(slice(BATCH // 2)))))
    found = [dict[str, Any]() for _ in precisions]
    for what in WORK:
        prepared = {peer: rival.prepare() for peer, rival in rivals.items()}
        floor = Floor(shapes, BATCH // 2, threads=threads, backward=what == "train")
        for own, precision in zip(found, precisions, strict=True):
            beside = rivals if own is found[0] else {}
            own[what] = _interleaved(what, (name, dim, data), threads, precision, floor, beside)
        found[0]["peers"] = prepared
    return {**found[0], **({"bfloat16": found[1]} if len(found) > 1 else {})}


def _interleaved(
    what: str,
    of: tuple[str, int, Data],
    threads: int,
    precision: Precision,
    floor: Floor,
    rivals: Mapping[str, Rival],
) -> dict[str, Any]:
    data, model = of[-1], _built(*of)
    trained = columns_of(data.split()[0])
    rows = {"train": len(trained), "score": len(data)}[what]
    plan, few = _plan(threads, precision), _few(trained)
    for rival in rivals.values():
        rival.begin(repeated=what == "score")

    def run() -> dict[str, Any]:
        beside = list(rivals.values())
        if what == "score":
            scored = columns_of(data.take(slice(SCORED)))
            return scoring(model, scored, ROUNDS, floor, threads, precision, beside)
        weights = build_loss_weights(plan.loss, RATES)
        return training(model, weights, FUNNEL, plan, trained, few, ROUNDS, floor, beside)

    found: dict[str, Any]
    span, found = timed(run)
    found["lost"] = (span.lost - sum(rival.cpu for rival in rivals.values())) / (span.wall * threads)
    found["beside"] = {
        peer: {"rows_per_s": rows * rival.passes / rival.seconds, **beside}
        for (peer, rival), beside in zip(rivals.items(), found["beside"], strict=True)
    }
    return found


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
