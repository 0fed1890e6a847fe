"""A network and boosted trees on the same rows, whose log odds are averaged step by step (stacking, Wolpert 1992)."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import NamedTuple, Protocol, cast, final

import torch

from funnelcast.boosting.model import BoostedModel
from funnelcast.data.batch import Batch
from funnelcast.models.base import Model
from funnelcast.models.network import FunnelModel
from funnelcast.ops import Precision
from funnelcast.ops.reach import HEADS, Reach, logits_given_parent


class Share(NamedTuple):
    """What trees have of a step's log odds, given the step before, and what they bring."""

    trees: float = 0.0
    """In [0, 1]; the network has the rest."""
    gain: float = 0.0
    """By which the network's log-loss falls on dev rows that did not decide the share, in nats a row. They did decide
    when the network and the trees stopped, so it is somewhat too large."""
    error: float = 0.0
    """Standard error of the gain."""


class Scorer(Protocol):
    """A network, or what gives its numbers faster."""

    def score(self, batch: Batch, *, precision: Precision = "float32") -> Reach: ...


@final
class Stacked:
    """logit_t = (1 − s_t) · network_t + s_t · trees_t, of each step given its parent; reach is their product along the
    path. `boosting.shares` decides the shares s; where all are 0, it is the network's own reach."""

    def __init__(self, network: FunnelModel, trees: BoostedModel) -> None:
        self.network, self.trees, self.parents = network, trees, network.parents
        self.shares: tuple[Share, ...] = (Share(),) * len(network.parents)
        self._scorer: Scorer = network

    @property
    def device(self) -> torch.device:
        """The network's; trees take their rows from there."""
        return self.network.device

    @property
    def size(self) -> int:
        """Numbers that were learned, and leaves."""
        return self.network.size + (self.trees.size if self.has_trees else 0)

    @property
    def fingerprint(self) -> str:
        """Hash of everything learned, 12 hex digits."""
        parts = (self.network.fingerprint, self.trees.fingerprint, repr([share.trees for share in self.shares]))
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:12]

    @property
    def has_trees(self) -> bool:
        """Whether trees have a share of any step."""
        return any(share.trees for share in self.shares)

    def __call__(self, batch: Batch) -> Reach:
        """Log-probabilities (B, T) of having reached and not having reached each step."""
        return self.mixed(self.network(batch), batch)

    def score(self, batch: Batch, *, precision: Precision = "float32") -> Reach:
        """Log-probabilities as of a call, in the fastest way there is; `precision`: of the network's products."""
        return self.mixed(self._scorer.score(batch, precision=precision), batch)

    def over(self, scorer: Scorer) -> Stacked:
        """The model with another `scorer` of its network."""
        other = copy.copy(self)
        other._scorer = scorer
        return other

    def mixed(self, reach: Reach, batch: Batch) -> Reach:
        """A network's reach of some rows (B, T) with the trees' of the same."""
        if not self.has_trees:
            return reach
        trees = self.trees(batch.to(torch.device("cpu")))
        found = mix(reach, Reach(*(each.to(self.device) for each in trees)), self.shares, self.parents)
        return Reach(found.log_p.to(reach.log_p.dtype), found.log_q.to(reach.log_q.dtype))

    def save(self, folder: Path) -> None:
        """Write what both write, trees into `trees/`, and `stacking.json`."""
        self.network.save(folder)
        (folder / "trees").mkdir()
        self.trees.save(folder / "trees")
        (folder / "stacking.json").write_text(json.dumps([share._asdict() for share in self.shares], indent=1))

    def load(self, folder: Path) -> None:
        self.network.load(folder)
        self.trees.load(folder / "trees")
        self.shares = tuple(Share(**each) for each in json.loads((folder / "stacking.json").read_text()))


def mix(network: Reach, trees: Reach, shares: tuple[Share, ...], parents: tuple[int, ...]) -> Reach:
    """Reach (B, T), float64, by the average of log odds given the parent."""
    of_trees = torch.tensor([share.trees for share in shares], dtype=torch.float64, device=network.log_p.device)
    logits = torch.lerp(logits_given_parent(network, parents), logits_given_parent(trees, parents), of_trees)
    return HEADS["chain"](logits, parents)


def network_of(model: Model) -> FunnelModel:
    """The network of a model that has one."""
    return model.network if isinstance(model, Stacked) else cast(FunnelModel, model)
