"""Rows/s of training, by the trainer's epochs, and of scoring, interleaved with the floor of the model's products."""

from __future__ import annotations

import argparse
import sys
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from bench.floor import Floor, products_of
from bench.interleaved import scoring, training
from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns, Ragged
from funnelcast.data.encoder import InputSpec, ListSpec
from funnelcast.data.loader import generator_of
from funnelcast.models.network import FunnelModel
from funnelcast.ops import Precision
from funnelcast.registry import RECIPES, recipe_of
from funnelcast.schema.funnel import Funnel
from funnelcast.training.losses import LossConfig, build_loss_weights
from funnelcast.training.optimizers import OptimizerConfig
from funnelcast.training.stage_run import Plan
from funnelcast.training.stages import Stage
from funnelcast.training.trainer import Trainer
from harness.show import show

VOCABULARIES = (
    238635, 98, 14, 3, 8, 4, 4, 3, 5, 467298, 6929, 263942, 106399, 5888, 104830, 51878, 37148, 4,
)  # fmt: skip
"""Sizes of Ali-CCP's 18 fields."""
ITEM = 9
"""The field that lists share their ids with."""
POOLS: dict[str, Any] = {
    "mean": "mean",
    "target_attention": {"kind": "target_attention", "field": f"field_{ITEM}", "positions": True},
    "transformer": {"kind": "transformer"},
}
FUNNEL = Funnel.parse("click; conversion after click")
RATES = (0.04, 0.008)
MICRO_BATCH = OptimizerConfig().micro_batch
SCORED = 32_768
"""Rows of a call in scoring."""


def main() -> int:
    """Prints a row of figures per model and embedding."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--models", nargs="+", default=["man", "shared_bottom"], choices=RECIPES)
    parser.add_argument("--embedding", nargs="+", type=int, default=[5, 16])
    parser.add_argument("--work", nargs="+", default=["train"], choices=["train", "score"])
    parser.add_argument("--precision", nargs="+", default=["float32"], choices=["float32", "bfloat16"])
    parser.add_argument("--turns", type=int, default=25, help="of work and floor; medians are shown")
    parser.add_argument("--rows", type=int, default=160 * 2048, help="of an epoch")
    parser.add_argument("--workers", nargs="+", type=int, default=[1], help="threads, as many for the floor")
    parser.add_argument("--list", type=int, default=0, help="mean length of a multi-valued feature, 0 for none")
    parser.add_argument("--sequence", choices=POOLS, help="pooling of a sequence of that length, instead")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lists = Listed(args.list, args.sequence)
    rows = draw(args.rows, 0, lists)
    head = ("work", "threads", "model", "embedding", "precision", "rows/s", "floor rows/s", "of floor", "middle half")
    table = []
    for work, workers, dim, name in product(args.work, args.workers, args.embedding, args.models):
        shapes = products_of(build(name, dim, lists), Batch.of(draw(MICRO_BATCH, 1, lists)))
        floor = Floor(shapes, MICRO_BATCH, threads=workers, backward=work == "train")
        for precision in args.precision:
            own = _measured(work, build(name, dim, lists), precision, rows, workers, args.turns, floor)
            low, high = own["middle half"]
            figures = (
                f"{own['rows_per_s']:,.0f}",
                f"{own['floor']:,.0f}",
                f"{own['share']:.0%}",
                f"{low:.0%} – {high:.0%}",
            )
            table.append((work, workers, name, dim, precision, *figures))
            show(head, table[-1:])
    show(head, table)
    return 0


def _measured(
    work: str, model: FunnelModel, precision: Precision, rows: Columns, workers: int, turns: int, floor: Floor
) -> dict[str, Any]:
    if work == "score":
        return scoring(model, rows.take(np.arange(SCORED)), turns, floor, workers, precision)
    plan = Plan(LossConfig(), OptimizerConfig(precision=precision), (), seed=0, workers=workers)
    return training(
        model, build_loss_weights(plan.loss, RATES), FUNNEL, plan, rows, rows.take(np.arange(4096)), turns, floor
    )


class Listed(NamedTuple):
    """A feature with lists of ids, beside Ali-CCP's fields."""

    length: int
    """In the mean; 0 for no such feature."""
    sequence: str | None
    """How a sequence is pooled; none for a multi-valued feature, which is averaged."""


NO_LISTS = Listed(0, None)


def build(name: str, dim: int, lists: Listed = NO_LISTS) -> FunnelModel:
    """A fresh model of the paper's sizes on Ali-CCP's fields."""
    names = [f"field_{i}" for i in range(len(VOCABULARIES))]
    kind = ListSpec("history", names[ITEM], "sequence" if lists.sequence else "multi", max_length=2 * lists.length)
    specs = (kind,) if lists.length else ()
    inputs = InputSpec(tuple((n, n) for n in names), dict(zip(names, VOCABULARIES, strict=True)), (), specs)
    pooling = {"history": POOLS[lists.sequence]} if lists.length and lists.sequence else {}
    model = recipe_of({"name": name, "embedding_dim": dim, "pooling": pooling}).build(inputs, FUNNEL)
    assert isinstance(model, FunnelModel), f"{name} is no network"
    model.reset("xavier_uniform", generator_of(0))
    return model


def draw(rows: int, seed: int, lists: Listed = NO_LISTS) -> Columns:
    """Ids with heavy tails, and labels at Ali-CCP's rates."""
    rng = np.random.default_rng(seed)
    ids = np.stack([(size * rng.random(rows) ** 3).astype(np.int32) for size in VOCABULARIES], axis=1)
    click = rng.random(rows) < RATES[0]
    labels = np.stack([click, click & (rng.random(rows) < RATES[1] / RATES[0])], axis=1).astype(np.uint8)
    labels[:2] = [(0, 0), (1, 1)]
    return Columns(ids, np.empty((rows, 0), np.float32), _lists(rng, rows, lists.length), labels)


def _lists(rng: np.random.Generator, rows: int, length: int) -> dict[str, Ragged]:
    if not length:
        return {}
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 2 * length + 1, rows))])
    ids = (VOCABULARIES[ITEM] * rng.random(offsets[-1]) ** 3).astype(np.int32)
    return {"history": Ragged(offsets, ids)}


def rows_on_disk(folder: Path, rows: int) -> Columns:
    """`draw` of so many rows in files, mapped as a table's are."""
    folder.mkdir()
    with (folder / "ids.bin").open("wb") as ids, (folder / "labels.bin").open("wb") as labels:
        for start in range(0, rows, 1 << 18):
            drawn = draw(min(1 << 18, rows - start), start)
            ids.write(drawn.ids.data)
            labels.write(np.ascontiguousarray(drawn.labels).data)
    return mapped_rows(folder, rows)


def mapped_rows(folder: Path, rows: int) -> Columns:
    """What `rows_on_disk` wrote."""
    return Columns(
        np.memmap(folder / "ids.bin", np.int32, "c", shape=(rows, len(VOCABULARIES))),
        np.empty((rows, 0), np.float32),
        labels=np.memmap(folder / "labels.bin", np.uint8, "c", shape=(rows, len(RATES))),
    )


def trainer(model: FunnelModel, config: OptimizerConfig, workers: int, folder: Path) -> Trainer:
    """Of one epoch, which writes its log into the folder."""
    plan = Plan(LossConfig(), config, (Stage(epochs=1),), seed=0, workers=workers)
    return Trainer(model, build_loss_weights(plan.loss, RATES), FUNNEL, plan, folder)


if __name__ == "__main__":
    sys.exit(main())
