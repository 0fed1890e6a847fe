"""A network under other parameters than its own, seen by one thread alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from queue import Empty, SimpleQueue

from torch import Tensor, nn
from torch.func import functional_call

from funnelcast.layers.embedding import Embedded
from funnelcast.models.network import FunnelModel
from funnelcast.ops import Reach


class FromRows(nn.Module):
    """A network from its embedded rows on."""

    def __init__(self, model: FunnelModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Embedded) -> Reach:
        """As `FunnelModel.network`."""
        return self.model.network(x)

    def under(self, parameters: Mapping[str, Tensor], x: Embedded) -> Reach:
        """With `parameters` of the network, by name, in place of its own."""
        named = {f"model.{name}": value for name, value in parameters.items()}
        reach: Reach = functional_call(self, named, (x,))
        return reach


class Replicas:
    """Of one network: other modules around the same tensors, as many as threads ask for at once."""

    def __init__(self, model: FunnelModel) -> None:
        self.model, self.idle = model, SimpleQueue[FromRows]()

    @contextmanager
    def one(self) -> Iterator[FromRows]:
        """Nobody else's, until the block ends."""
        try:
            network = self.idle.get_nowait()
        except Empty:
            network = FromRows(self.model)
            tensors = {id(tensor): tensor for tensor in chain(network.parameters(), network.buffers())}
            network = copy.deepcopy(network, tensors)
        yield network
        self.idle.put(network)
