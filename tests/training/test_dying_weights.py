"""Weights that nothing but `l2` moves, on their way to 0: they and their moments arrive there, none stays subnormal."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from funnelcast.models.network import FunnelModel
from funnelcast.runtime.threads import worker_pool
from funnelcast.training.losses import LossConfig
from funnelcast.training.objective import Objective
from funnelcast.training.optimizers import Optimizer, OptimizerConfig
from funnelcast.training.step import PlainStep, Trained
from tests.training.test_step import build, drawn

STEPS = 60


def dying() -> FunnelModel:
    """A network as 100,000 steps leave one whose inputs do not vary: half of its weights are nearly nothing."""
    model, _ = build("man", LossConfig())
    model = model.float()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            chosen = torch.rand(parameter.shape, generator=generator) < 0.5
            parameter[chosen] *= 10.0 ** -torch.randint(25, 44, (int(chosen.sum()),), generator=generator)
    return model


def numbers(optimizer: Optimizer) -> Iterator[Tensor]:
    """Weights and moments."""
    yield from (parameter.detach() for parameter in optimizer.model_parameters)
    yield from (tensor for name, tensor in optimizer.state().items() if tensor.is_floating_point())


def share(optimizer: Optimizer, below: float) -> float:
    """Of the numbers those that are not 0 and smaller, by their bits: a thread that flushes sees no subnormal one."""
    limit = torch.tensor(below).view(torch.int32)
    bits = torch.cat([tensor.flatten().view(torch.int32) & 0x7FFFFFFF for tensor in numbers(optimizer)])
    return float(((bits > 0) & (bits < limit)).float().mean())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adam", "adam_dense"])
def test_nothing_is_subnormal_after_steps_on_inputs_that_never_vary(name: str) -> None:
    model, batch = dying(), drawn(1, dtype=torch.float32).take(torch.zeros(32, dtype=torch.int64))
    batch = replace(batch, labels=drawn().labels, weight=None)
    weights = build("man", LossConfig())[1].float()
    dense = {n: p for n, p in model.named_parameters() if not n.startswith("embedding.")}
    config = OptimizerConfig.model_validate({"name": name, "l2": 1e-4})
    optimizer = Optimizer(config, dense, {}, 0.1, model.embedding.all_tables())
    step = PlainStep(Objective(model, weights, LossConfig()), Trained(list(dense.values()), embedding=True), 16)
    for table, reading in zip(optimizer.tables, optimizer.reads(batch), strict=True):
        unread = torch.ones(len(table.weight), dtype=torch.bool).index_fill_(0, reading.rows.long(), value=False)
        table.weight.data[unread] = 0  # or they would stay as they are
    assert share(optimizer, below=1e-30) > 0.1 and share(optimizer, below=1.1e-38) > 0.05
    with worker_pool(1):
        for seed in range(STEPS):
            optimizer.step(step(batch, seed, None))
    moved = [parameter for parameter in optimizer.model_parameters if parameter.dim() > 2]
    assert share(optimizer, below=0.99e-30) == 0 and all((parameter != 0).any() for parameter in moved)
