"""CPU time per row of a meta step, support and query, over that of an ordinary step, interleaved in one process.

A task is a mini-batch of the ordinary step's size, halved into support and query; a step has two. Beside it the ratio
of the matrix products alone: with c of a first layer and d of the others in one pass forward, an ordinary step has
3 c + 3 d; the support 6 c + 9 d when all dense parameters adapt (forward, backward, and for the second derivative two
products more per direction, but for those that would lead below the embedded rows); the query 3 c + 3 d. When the top
adapts, it is 9 of the top, 6 of its first layer where no gates adapt below it, and 3 of what is below. Columns whose
vectors repeat in a batch (`ops.deduplicate`) are not counted in first layers.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch

from bench.floor import Products, products_of
from bench.training import RATES, build, draw
from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns
from funnelcast.kernels.cpu.bank import WIDE
from funnelcast.kernels.cpu.dedup import deduplicated
from funnelcast.models.network import FunnelModel
from funnelcast.ops import deduplicate, keep_freed_memory
from funnelcast.training.losses import LossConfig, build_loss_weights
from funnelcast.training.optimizers import OptimizerConfig
from funnelcast.training.stage_run import Plan, stage_run_of
from funnelcast.training.stages import Meta, Stage
from harness.show import show

KINDS: dict[str, Meta | None] = {
    "ordinary": None,
    "first order": Meta(order="first"),
    "second order, top": Meta(inner="top"),
    "second order, all": Meta(),
}
BATCH = 2048


def main() -> int:
    """Prints a row per model and embedding."""
    parser = argparse.ArgumentParser(prog="scripts/bench meta", description=__doc__)
    parser.add_argument("--models", nargs="+", default=["man", "mmoe", "ple", "shared_bottom"])
    parser.add_argument("--embedding", nargs="+", type=int, default=[5, 16])
    parser.add_argument("--rounds", type=int, default=20, help="of a step of each kind in turn; medians are shown")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as the trainer does
    rows = [(name, dim, *_ratios(name, dim, args.rounds)) for dim in args.embedding for name in args.models]
    show(("model", "embedding", "ordinary, ms per 2,048 rows", *list(KINDS)[1:], "products, top", "all"), rows)
    return 0


def _ratios(name: str, dim: int, rounds: int) -> list[str]:
    model = build(name, dim)
    columns = draw(2 * BATCH, 0)
    runs = {kind: _step(model, columns, meta) for kind, meta in KINDS.items()}
    found = [{kind: _seconds(run) for kind, run in runs.items()} for _ in range(rounds + 2)][2:]
    ratios = [median(times[kind] / times["ordinary"] for times in found) for kind in list(KINDS)[1:]]
    ordinary = median(times["ordinary"] for times in found)
    return [f"{1e3 * ordinary:.1f}", *(f"{ratio:.2f}" for ratio in [*ratios, *_products(model, columns)])]


def _step(model: FunnelModel, columns: Columns, meta: Meta | None) -> Callable[[], int]:
    """A step of the optimizer; returns its rows."""
    size = BATCH if meta is None else 2 * BATCH
    plan = Plan(LossConfig(), OptimizerConfig(batch_size=size), (), 0)
    stage_run = stage_run_of(Stage(meta=meta), model, build_loss_weights(plan.loss, RATES), plan, columns, None)
    batch = next(stage_run.loader.epoch(0))

    def run() -> int:
        gradients = stage_run.step(batch, 0, None)
        stage_run.optimizer.step(gradients)
        return len(gradients.rows)

    return run


def _seconds(run: Callable[[], int]) -> float:
    """CPU time per ordinary batch of rows."""
    started = time.process_time()
    rows = run()
    return (time.process_time() - started) * BATCH / rows


def _products(model: FunnelModel, columns: Columns) -> list[float]:
    """Of the meta steps by the top and by all over those of the ordinary step."""
    batch = Batch.of(columns)

    def below_top(batch: Batch) -> object:
        return model.trunk(model.pooling(model.embedding(batch)))

    def sized(product: Products) -> tuple[int, bool]:
        """Its size, and whether it is of a first layer; of one by tables, of the columns that do not repeat."""
        wide, is_first = product.networks * product.width_out, product.width_in == model.embedding.width
        return wide * (product.width_in - grouped * (is_first and wide >= WIDE)), is_first

    grouped = _repeating(model, batch)
    below, every = ([sized(product) for product in products_of(part, batch)] for part in (below_top, model))
    ordinary = sum(3 * size for size, _ in every)
    top = [size for size, _ in every[len(below) :]]
    leads_on = bool(model.groups(["gates"]))  # to what adapts: the gradient by the input of the top's first layer
    by_top = sum(3 * size for size, _ in below) + sum(9 * size for size in top) - (0 if leads_on else 3 * top[0])
    by_all = sum((6 if is_first else 9) * size for size, is_first in every)
    return [(support + ordinary) / (2 * ordinary) for support in (by_top, by_all)]


@torch.no_grad()
def _repeating(model: FunnelModel, batch: Batch) -> int:
    """Columns whose vectors repeat in a batch."""
    with model.compute():
        x = model.embedding(batch)
        flat = deduplicate(x.flat, x.ids, model.embedding.id_fields)
    found = deduplicated(flat)
    if found is None:
        return 0
    dense, *_ = found.first_layer(flat, flat.new_empty(1, flat.shape[1], 1))
    return flat.shape[1] - dense.shape[1]


if __name__ == "__main__":
    raise SystemExit(main())
