"""Adam over the dense parameters, and Adam over just the embedding rows of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from funnelcast.data.batch import Batch
from funnelcast.errors import Fault, FunnelcastError
from funnelcast.layers.embedding import EmbeddingTable
from funnelcast.ops import Precision
from funnelcast.runtime.threads import Workers, parallel_map, run_job
from funnelcast.schema.config import Config
from funnelcast.training.adam import DenseAdam, Group, RowAdam
from funnelcast.training.gradients import Gradients
from funnelcast.training.row_gradients import Reading, row_gradients, spans_of


class OptimizerConfig(Config):
    """How parameters move."""

    name: Literal["adam", "adam_dense"] = "adam"
    """`adam` moves only the embedding rows of a batch; `adam_dense` all rows in every step, as PyTorch's Adam does, to
    compare."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Step size, for all but the loss weights, which have their own."""
    l2: float = Field(default=1e-6, ge=0)
    """Added to the gradient times the parameter; rows of the embedding that are not in the batch are left alone. Adam
    divides it by its own size, so that it shrinks to nothing what has no other gradient; `weight_decay` does not."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled from the gradient (AdamW, Loshchilov & Hutter 2019): in every step each weight of a layer loses this
    share of itself, times the learning rate. Not biases, norms, or learned loss weights; embeddings have their own."""
    embedding_decay: float = Field(default=0.0, ge=0)
    """The same for the rows of embeddings, also those that are not in the batch: in an epoch every id loses the same
    share, so that a rare one, which batches hardly move, ends nearer to 0 than a frequent one."""
    batch_size: int = Field(default=2048, ge=1, le=1 << 24)
    """Rows per step."""
    least_batches: int = Field(default=1, ge=1, le=1 << 24)
    """Steps of an epoch, at least: where there are few rows, `batch_size` is no more than their part."""
    micro_batch: int = Field(default=1024, ge=1, le=1 << 24)
    """Rows that have a dropout mask of their own. Changes that mask, and as `at_once` does."""
    at_once: Annotated[int, Field(ge=1, le=1 << 24)] | Literal["auto"] = "auto"
    """Micro-batches that go through the network together; gradients are added. Changes speed, memory and the order of
    sums. `auto` takes two where every thread has two, one elsewhere; with a number what is trained does not depend on
    `workers`. Meta steps take one."""
    precision: Precision = "float32"
    """Of the operands of matrix products; parameters, sums and all else stay float32. `bfloat16` halves their time on
    AMD's processors with AVX-512 BF16 and on GPUs, and needs that instruction; meta steps stay float32."""
    compile: bool = False
    """Let torch.compile make code of the network's plain operations, which takes a minute in the first batches. It is
    for GPUs: on a CPU that code takes the place of kernels that are faster. Meta steps go without."""
    clip: float | None = Field(default=None, gt=0)
    """Largest norm of the whole gradient; none for no limit."""

    def batch_rows(self, rows: int) -> int:
        """Return the rows per step of so many training rows."""
        return max(1, min(self.batch_size, rows // self.least_batches))

    def check(self, learning_rate: float | None) -> list[Fault]:
        """Return faults of decays with the learning rate of a stage, or none for its own."""
        rate, faults = learning_rate or self.learning_rate, []
        for name in ("weight_decay", "embedding_decay"):
            if rate * getattr(self, name) >= 1:
                problem = f"{getattr(self, name)} takes all of a weight in one step at a learning rate of {rate:g}"
                faults.append(Fault(f"optimizer.{name}", problem, f"set it far below {1 / rate:g}"))
        return faults


class Optimizer:
    """What a stage trains: named dense parameters, loss weights, and embedding tables."""

    def __init__(
        self,
        config: OptimizerConfig,
        dense: dict[str, nn.Parameter],
        loss_weights: dict[str, nn.Parameter],
        loss_rate: float,
        tables: Sequence[EmbeddingTable] = (),
        learning_rate: float | None = None,
        rates: dict[str, nn.Parameter] | None = None,
    ) -> None:
        """`tables`: all of the model's, or none where a stage leaves them as they are; frozen ones stay in any case.
        `learning_rate` replaces the config's; `rates`: of an inner loop, which have no weight decay."""
        rate = learning_rate or config.learning_rate
        self.dense, self.loss_weights, self.rates = dense, loss_weights, rates or {}
        self.clip = config.clip
        self._spans = [s for s in spans_of(tables) if not s.table.frozen]
        self.tables = tables = [span.table for span in self._spans]
        is_by_row, of_rows = config.name == "adam", config.embedding_decay
        self.row_adams = [RowAdam(table, rate, config.l2, of_rows) for table in tables] if is_by_row else []
        decays = tuple(config.weight_decay * decays_weight(name, p) for name, p in dense.items())
        groups = [
            Group(list(dense.values()), rate, config.l2, decays),
            Group(list(loss_weights.values()), loss_rate, 0.0),
            Group(list(self.rates.values()), rate, 0.0),
        ]
        if not is_by_row:
            groups.append(Group([table.weight for table in tables], rate, config.l2, (of_rows,) * len(tables)))
        self.adam = DenseAdam(groups)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Those whose gradients `step` takes, in its order."""
        return [*self.dense.values(), *self.loss_weights.values(), *self.rates.values()]

    @property
    def model_parameters(self) -> list[nn.Parameter]:
        """What is trained of the model: dense parameters and tables."""
        return [*self.dense.values(), *(table.weight for table in self.tables)]

    def step(self, found: Gradients, workers: Workers | None = None) -> None:
        """Of `parameters`, and of what a batch reads of the embedding. `workers`: threads that share this; what comes
        out does not depend on them."""
        jobs: list[Callable[[], Any]] = []
        if found.embedded_by_microbatch:
            read = zip(self._spans, found.readings or self.reads(found.rows), strict=True)
            jobs = [partial(row_gradients, *pair, found.embedded_by_microbatch, found.touching) for pair in read]
        if self.clip is None and self.row_adams:
            move = [partial(_move, *pair, workers) for pair in zip(self.row_adams, jobs, strict=False)]
            every: list[Callable[[], Any]] = [*move, *self.adam.shares(found.by_microbatch)]
            parallel_map(workers, run_job, every)
            return
        found_rows: list[tuple[Tensor, Tensor]] = parallel_map(workers, run_job, jobs)
        self._move_after(found.parameters, found_rows)
        for row_adam, (rows, grad) in zip(self.row_adams, found_rows, strict=False):
            row_adam.step(rows, grad, workers)

    def reads(self, batch: Batch) -> list[Reading]:
        """What a batch reads of each table that moves."""
        return [Reading.of(span, batch) for span in self._spans]

    def _move_after(self, grads: list[Tensor], rows: list[tuple[Tensor, Tensor]]) -> None:
        """Parameters, once all gradients are there."""
        if self.clip is not None:
            _clip([*grads, *(grad for _, grad in rows)], self.clip)
        whole = []
        if not self.row_adams:
            for table, (touched, grad) in zip(self.tables, rows, strict=False):
                whole.append(torch.zeros_like(table.weight).index_copy_(0, touched.long(), grad))
        self.adam.step([[*grads, *whole]])

    def settle(self) -> None:
        """Let embedding rows lose what is owed to their decay: at the end of an epoch, before they are measured."""
        for row_adam in self.row_adams:
            row_adam.settle()

    def state(self) -> dict[str, Tensor]:
        """Every moment and step count by name."""
        dense = zip(self._names(), self.adam.state(), strict=True)
        state = {f"adam.{name}.{k}": v for name, own in dense for k, v in own.items()}
        rows = {f"rows.{i}.{k}": v for i, adam in enumerate(self.row_adams) for k, v in adam.state().items()}
        return state | rows

    def _names(self) -> list[str]:
        tables = [f"table.{i}" for i in range(len(self.tables))] if not self.row_adams else []
        return [*self.dense, *self.loss_weights, *(f"rates.{name}" for name in self.rates), *tables]

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over what `state` gave. Raises FunnelcastError where something is missing in it."""
        state = _as_now(state)
        missing = self.state().keys() - state.keys()
        if missing:
            raise FunnelcastError(
                f"the checkpoint lacks {min(missing)}: it is of another version of funnelcast; go on with that one, or "
                "delete the checkpoint to train from the start"
            )
        keys = self.adam.state()[0] if self.adam.parameters else {}
        self.adam.load([{k: state[f"adam.{name}.{k}"] for k in keys} for name in self._names()])
        for i, row_adam in enumerate(self.row_adams):
            row_adam.load({k: state[f"rows.{i}.{k}"] for k in row_adam.state()})


def _as_now(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """With the moments of rows beside each other; checkpoints had them apart before."""
    apart = [name.removesuffix("mean") for name in state if name.startswith("rows.") and name.endswith(".mean")]
    moments = {f"{own}moments": torch.stack([state[f"{own}mean"], state[f"{own}square"]], 1) for own in apart}
    return state | moments


def decays_weight(name: str, parameter: Tensor) -> bool:
    """Whether a dense parameter decays: what a layer multiplies by, which is named `weight` and has two dimensions or
    more. A bank's biases have two as well, and the scale of its norms three."""
    return name.rpartition(".")[2] == "weight" and parameter.dim() > 1


def _move(row_adam: RowAdam, gradients: Callable[[], tuple[Tensor, Tensor]], workers: Workers | None) -> None:
    """Rows of a table, by gradients that are made for it."""
    row_adam.step(*gradients(), workers)


def _clip(grads: list[Tensor], limit: float) -> None:
    """Scale all gradients together so that their common norm is at most `limit`."""
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in grads]))
    torch._foreach_mul_(grads, torch.clamp(limit / (norm + 1e-12), max=1.0))
