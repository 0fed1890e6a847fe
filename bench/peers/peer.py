"""A library around one model, and what is measured of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.peers.work import BATCH, Data

WARM_UP = 8
"""Batches that a throw-away model is trained on first."""


class Config(NamedTuple):
    """What one measurement runs."""

    model: str
    dim: int
    folder: Path
    """For the peer's files."""


class Peer:
    """One library around one model. `fit` and `predict` do beforehand what a user does before the clock starts."""

    models: ClassVar[tuple[str, ...]]
    notes: ClassVar[dict[str, str]]
    """How it differs from the common architecture, by model; "" for all of them."""

    def __init__(self, config: Config, data: Data) -> None:
        raise NotImplementedError

    def fit(self, train: Data, few: Data) -> Callable[[], Any]:
        """One epoch over `train`; `few` rows for those whose training must validate."""
        raise NotImplementedError

    def predict(self, data: Data) -> Callable[[], NDArray[np.float64]]:
        """Probabilities of click, and of click and conversion, (N, 2), in the order of rows."""
        raise NotImplementedError


def works(kind: type[Peer], config: Config, data: Data) -> Iterator[Callable[[], Any]]:
    """An epoch of training, and the scoring of all rows, through the peer's own loader, trainer and predict: each is
    prepared when it is requested."""
    train, _ = data.split()
    few = _few_of_each(train)
    first = kind(config, data)
    first.fit(train.take(slice(WARM_UP * BATCH)), few)()
    first.predict(few)()
    peer = kind(config, data)
    yield peer.fit(train, few)
    yield peer.predict(data)


def _few_of_each(data: Data) -> Data:
    """64 rows with conversions, clicks and neither."""
    order = np.argsort(-data.labels.sum(1).astype(np.int64), kind="stable")
    return data.take(np.concatenate([order[:32], order[-32:]]))
