"""A bundle as a function of tensors: from rows to the columns of `predict`, the funnel's arithmetic in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import singledispatch

from torch import Tensor, nn

from funnelcast.errors import FunnelcastError
from funnelcast.exporting.reading import ReadNetwork
from funnelcast.exporting.rows import Rows
from funnelcast.layers.members import average
from funnelcast.models.base import Model
from funnelcast.models.network import FunnelModel
from funnelcast.ops.reach import Reach, chain_reach, undo_downsampling
from funnelcast.serving.bundle import Bundle

Read = Callable[[Mapping[str, Tensor]], Rows]


class Graph(nn.Module):
    """A bundle's `predict`."""

    def __init__(self, bundle: Bundle, read: Read) -> None:
        """`read`: makes rows of the graph's inputs."""
        super().__init__()
        self.read, self.reach = read, reach_of(bundle.model)
        self.funnel, self.parents = bundle.encoder.schema.funnel, bundle.model.parents
        self.keep, self.calibration = bundle.keep_negatives, bundle.calibration

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """Probabilities (B,) float64 of every output of the funnel."""
        rows = self.read(inputs)
        reach = self.reach(rows)
        if self.keep < 1:
            reach = undo_downsampling(reach, self.parents, self.keep)
        if self.calibration is not None:
            reach = self.calibration(reach, rows.batch)
        log_p, columns = reach.log_p, []
        for output in self.funnel.outputs:
            own = log_p[:, output.step]
            if output.given is not None:
                own = (own - log_p[:, output.given]).clamp(max=0)
            columns.append(own.exp())
        return tuple(columns)


class NetworkReach(nn.Module):
    """A network's reach (B, T), float64 from its logits on."""

    def __init__(self, network: FunnelModel) -> None:
        super().__init__()
        self.network, self.first = network, ReadNetwork(network)
        self.along = network.parents if network.head == "chain" else (-1,) * len(network.parents)

    def forward(self, rows: Rows) -> Reach:
        """Of padded rows."""
        logits = self.network.logits_of(self.first(rows))
        reach = chain_reach(logits.double(), self.along)
        return reach if self.network.members == 1 else average(reach, self.network.members, self.along)


@singledispatch
def reach_of(model: Model) -> nn.Module:
    """A module from `Rows` to the reach of a model. Raises FunnelcastError for a kind of model that it cannot read."""
    raise FunnelcastError(
        f"a model of type {type(model).__name__} cannot be exported; train one of the package's own recipes"
    )


@reach_of.register
def _(model: FunnelModel) -> nn.Module:
    return NetworkReach(model)
