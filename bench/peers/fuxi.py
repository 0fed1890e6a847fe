"""FuxiCTR, whose package has no multi-task model: composed of its blocks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.layers import FeatureEmbedding, MLP_Block
from fuxictr.pytorch.models import MultiTaskModel
from numpy.typing import NDArray
from torch import Tensor, nn

from bench.peers.peer import Config, Peer
from bench.peers.work import BATCH, EXPERT, EXPERTS, LEARNING_RATE, OWN, SHARED, TASKS, TOWER, Data


class Fuxi(Peer):
    """Through its own trainer and loader, which reads files."""

    models = ("mmoe", "ple", "shared_bottom")
    notes: ClassVar[dict[str, str]] = {
        "": "no such model in its package, composed of its embedding, MLP and multi-task base; clips gradients"
    }

    def __init__(self, config: Config, data: Data) -> None:
        self.folder, self.map = config.folder, FeatureMap("peers", str(config.folder))
        (config.folder / "peers").mkdir(exist_ok=True)  # for its checkpoint
        self.map.load(str(self._write_map(data)), {"embedding_dim": config.dim})
        torch.manual_seed(0)
        self.network = Network(self.map, config)
        self.network.compile("adam", "binary_crossentropy", LEARNING_RATE)
        self.network.reset_parameters()

    def _write_map(self, data: Data) -> Path:
        path = self.folder / "feature_map.json"
        sizes = zip(data.names(), data.vocabulary.tolist(), strict=True)
        features = [{name: {"type": "categorical", "source": "", "vocab_size": size}} for name, size in sizes]
        path.write_text(json.dumps({"dataset_id": "peers", "labels": TASKS, "features": features}))
        return path

    def _loader(self, stage: str, **parts: Data) -> Any:
        for name, part in parts.items():
            columns: dict[str, Any] = {**part.columns(), **{task: part.labels[:, i] for i, task in enumerate(TASKS)}}
            np.savez(self.folder / f"{name}.npz", **columns)
        paths: dict[str, Any] = {f"{name}_data": str(self.folder / f"{name}.npz") for name in parts}
        return RankDataLoader(self.map, stage=stage, batch_size=BATCH, num_workers=0, **paths)

    def fit(self, train: Data, few: Data) -> Callable[[], Any]:
        train_loader, few_loader = self._loader("train", train=train, valid=few)
        return lambda: self.network.fit(train_loader, epochs=1, validation_data=few_loader)

    def predict(self, data: Data) -> Callable[[], NDArray[np.float64]]:
        loader = self._loader("test", test=data)

        def run() -> NDArray[np.float64]:
            scores = self.network.predict(loader)
            return np.stack([np.asarray(scores[task], np.float64) for task in TASKS], axis=1)

        return run


class Network(MultiTaskModel):  # type: ignore[misc]
    """Its base class around a mixture."""

    def __init__(self, features: Any, config: Config) -> None:
        files = {"model_root": str(config.folder), "metrics": ["AUC"], "verbose": 0}
        super().__init__(features, task=["binary_classification"] * 2, num_tasks=2, **files)
        self.embedding = FeatureEmbedding(features, config.dim)
        self.mixture = Mixture(features.num_fields * config.dim, *uses_of(config.model))

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        logits = self.mixture(self.embedding(self.get_inputs(inputs), flatten_emb=True))
        heads = enumerate(zip(TASKS, self.output_activation, strict=True))
        return {f"{task}_pred": activation(logits[:, i : i + 1]) for i, (task, activation) in heads}


def uses_of(model: str) -> tuple[int, list[list[int]]]:
    """How many experts, and which of them each task mixes."""
    if model == "shared_bottom":
        return 1, [[0], [0]]
    if model == "mmoe":
        return EXPERTS, [list(range(EXPERTS))] * 2
    own = [[SHARED + task * OWN + i for i in range(OWN)] for task in range(2)]
    return SHARED + 2 * OWN, [[*range(SHARED), *experts] for experts in own]


class Mixture(nn.Module):
    """(B, D) -> (B, 2) logits: experts, a gate for each task that mixes several, towers."""

    def __init__(self, width: int, experts: int, uses: list[list[int]]) -> None:
        super().__init__()
        self.uses = uses
        self.experts = nn.ModuleList(MLP_Block(input_dim=width, hidden_units=EXPERT) for _ in range(experts))
        self.gates = nn.ModuleList(nn.Linear(width, len(use)) for use in uses if len(use) > 1)
        self.towers = nn.ModuleList(MLP_Block(input_dim=EXPERT[-1], hidden_units=TOWER, output_dim=1) for _ in uses)

    def forward(self, x: Tensor) -> Tensor:
        outputs = [expert(x) for expert in self.experts]
        mixed = [self._mixed(x, outputs, task) for task in range(len(self.uses))]
        return torch.cat([tower(own) for tower, own in zip(self.towers, mixed, strict=True)], dim=1)

    def _mixed(self, x: Tensor, outputs: list[Tensor], task: int) -> Tensor:
        chosen = [outputs[i] for i in self.uses[task]]
        if len(chosen) == 1:
            return chosen[0]
        weights: Tensor = self.gates[task](x).softmax(1).unsqueeze(2)
        return (weights * torch.stack(chosen, dim=1)).sum(1)
