"""torch-rechub."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from torch_rechub.basic.features import SparseFeature
from torch_rechub.models.multi_task import AITM, ESMM, MMOE, PLE, SharedBottom
from torch_rechub.trainers import MTLTrainer
from torch_rechub.utils.data import DataGenerator, PredictDataset

from bench.peers.peer import Config, Peer
from bench.peers.work import BATCH, EXPERT, EXPERTS, FUNNEL_TOWER, LEARNING_RATE, OWN, SHARED, TASKS, TOWER, Data


class Rechub(Peer):
    """Its ESMM wants three labels: conversion given click, click, both."""

    models = ("mmoe", "ple", "shared_bottom", "esmm", "aitm")
    notes: ClassVar[dict[str, str]] = {
        "": "BatchNorm after every hidden layer, gates too, which cannot be switched off; weight decay set to 0",
        "esmm": "embeds a batch three times",
        "aitm": "has no calibrator in its loss",
    }

    def __init__(self, config: Config, data: Data) -> None:
        self.config, self.is_esmm = config, config.model == "esmm"
        torch.manual_seed(0)
        sizes = zip(data.names(), data.vocabulary.tolist(), strict=True)
        features = [SparseFeature(name, vocab_size=size, embed_dim=config.dim) for name, size in sizes]
        self.trainer = MTLTrainer(
            self._build(features),
            task_types=["classification"] * (3 if self.is_esmm else 2),
            optimizer_params={"lr": LEARNING_RATE},
            n_epoch=1,
            model_path=str(config.folder),
        )

    def _build(self, features: list[Any]) -> Any:
        expert, towers = {"dims": EXPERT}, [{"dims": TOWER} for _ in TASKS]
        kinds, half = ["classification"] * 2, len(features) // 2
        # AITM: the towers are the parts below the transfer; above it there is the linear layer to 1 alone.
        builders: dict[str, Callable[[], Any]] = {
            "mmoe": lambda: MMOE(features, kinds, EXPERTS, expert, towers),
            "ple": lambda: PLE(features, kinds, 1, OWN, SHARED, expert, towers),
            "shared_bottom": lambda: SharedBottom(features, kinds, expert, towers),
            "esmm": lambda: ESMM(features[:half], features[half:], {"dims": FUNNEL_TOWER}, {"dims": FUNNEL_TOWER}),
            "aitm": lambda: AITM(features, 2, {"dims": FUNNEL_TOWER}, [{"dims": []} for _ in TASKS]),
        }
        return builders[self.config.model]()

    def _labels(self, data: Data) -> NDArray[np.uint8]:
        return data.labels[:, [1, 0, 1]] if self.is_esmm else data.labels

    def fit(self, train: Data, few: Data) -> Callable[[], Any]:
        columns, labels = few.columns(), self._labels(few)
        generator = DataGenerator(train.columns(), self._labels(train))
        own = {"x_val": columns, "y_val": labels, "x_test": columns, "y_test": labels}
        train_loader, few_loader, _ = generator.generate_dataloader(**own, batch_size=BATCH, num_workers=0)
        return lambda: self.trainer.fit(train_loader, few_loader)

    def predict(self, data: Data) -> Callable[[], NDArray[np.float64]]:
        rows: Any = PredictDataset(data.columns())
        loader = DataLoader(rows, batch_size=BATCH)
        return lambda: np.asarray(self.trainer.predict(self.trainer.model, loader), np.float64)[:, -2:]
