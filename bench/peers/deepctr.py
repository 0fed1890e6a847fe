"""deepctr-torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from deepctr_torch.inputs import SparseFeat
from deepctr_torch.models.multitask import ESMM, MMOE, PLE, SharedBottom
from numpy.typing import NDArray

from bench.peers.peer import Config, Peer
from bench.peers.work import BATCH, EXPERT, EXPERTS, FUNNEL_TOWER, LEARNING_RATE, OWN, SHARED, TOWER, Data


class DeepCTR(Peer):
    """It is given no metrics, so that it computes none in each batch."""

    models = ("mmoe", "ple", "shared_bottom", "esmm")
    notes: ClassVar[dict[str, str]] = {
        "": "no bias in last layers; its weight decay of embeddings set to 0",
        "ple": "computes a shared gate that nobody reads",
    }

    def __init__(self, config: Config, data: Data) -> None:
        sizes = zip(data.names(), data.vocabulary.tolist(), strict=True)
        columns = [SparseFeat(name, size, config.dim) for name, size in sizes]
        self.network = self._build(config.model, columns)
        optimizer = torch.optim.Adam(self.network.parameters(), lr=LEARNING_RATE)
        self.network.compile(optimizer, loss=["binary_crossentropy"] * 2)

    def _build(self, model: str, columns: list[Any]) -> Any:
        common = {"l2_reg_embedding": 0, "seed": 0}
        experts = {"expert_dnn_hidden_units": EXPERT, "gate_dnn_hidden_units": (), "tower_dnn_hidden_units": TOWER}
        levels = {"num_levels": 1, "shared_expert_num": SHARED, "specific_expert_num": OWN}
        bottom = {"bottom_dnn_hidden_units": EXPERT, "tower_dnn_hidden_units": TOWER}
        builders: dict[str, Callable[[], Any]] = {
            "mmoe": lambda: MMOE(columns, num_experts=EXPERTS, **experts, **common),
            "ple": lambda: PLE(columns, **levels, **experts, **common),
            "shared_bottom": lambda: SharedBottom(columns, **bottom, **common),
            "esmm": lambda: ESMM(columns, tower_dnn_hidden_units=FUNNEL_TOWER, **common),
        }
        return builders[model]()

    def fit(self, train: Data, few: Data) -> Callable[[], Any]:
        columns = train.columns()
        return lambda: self.network.fit(columns, train.labels, batch_size=BATCH, epochs=1, verbose=0)

    def predict(self, data: Data) -> Callable[[], NDArray[np.float64]]:
        columns = data.columns()
        return lambda: np.asarray(self.network.predict(columns, batch_size=BATCH))
