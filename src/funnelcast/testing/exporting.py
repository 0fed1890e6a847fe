"""Networks as functions of tensors, as `torch.export` takes them."""

from __future__ import annotations

from torch import Tensor, nn

from funnelcast.data.batch import Batch, Lists
from funnelcast.models.network import FunnelModel
from funnelcast.ops.reach import Reach


class ByTensors(nn.Module):
    """A network as a function of the tensors of a batch."""

    def __init__(self, network: FunnelModel) -> None:
        super().__init__()
        self.network = network

    def forward(self, ids: Tensor, numeric: Tensor, lists: dict[str, dict[str, Tensor]]) -> Reach:
        """As `tensors_of` gives them."""
        reach: Reach = self.network(Batch(ids, numeric, lists={name: Lists(**lists[name]) for name in lists}))
        return reach


def tensors_of(batch: Batch) -> tuple[Tensor, Tensor, dict[str, dict[str, Tensor]]]:
    """Ids, numbers, and by list its offsets, ids and weights."""
    parts = {n: {"offsets": e.offsets, "ids": e.ids, "weights": e.weights} for n, e in batch.lists.items()}
    return batch.ids, batch.numeric, {n: {k: t for k, t in p.items() if t is not None} for n, p in parts.items()}
