"""A run that starts from vectors: where they go, that they stay if frozen, and that the bundle needs no file."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from funnelcast.errors import ConfigError, InputError
from funnelcast.experiments.fit import build_model
from funnelcast.experiments.run import train
from funnelcast.models.network import FunnelModel
from funnelcast.serving.bundle import Bundle
from tests import tiny

KNOWN = [3, 7, 19]
VECTORS = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], np.float32)


def settings(folder: Path, name: str = "man", frozen: bool = False) -> dict[str, Any]:
    """The tiny experiment's model with vectors for three items."""
    pq.write_table(pa.table({"item": KNOWN, "vector": VECTORS.tolist()}), folder / "v.parquet")
    if name == "man":
        model = dict(tiny.MODEL)
    else:
        model = {"name": name, "embedding_dims": {"item": 3}, "expert": [4], "tower": [4], "tower_dropout": []}
    return {"model": model | {"pretrained": {"item": {"file": str(folder / "v.parquet"), "frozen": frozen}}}}


def rows_of(model: Any) -> Tensor:
    """The item rows that have vectors, all copies of them."""
    assert isinstance(model, FunnelModel)
    (rows,) = (t.blocks()["item"] for t in model.embedding.all_tables() if "item" in t.sizes)
    return rows[torch.tensor(KNOWN) + 1].detach().clone()


def test_rows_start_from_their_vectors_and_others_as_ever(tmp_path: Path) -> None:
    encoder = tiny.fitted_encoder()
    plain, started = (build_model(tiny.experiment(**s), encoder) for s in ({}, settings(tmp_path)))
    assert torch.equal(rows_of(started), torch.from_numpy(VECTORS))
    assert isinstance(plain, FunnelModel) and isinstance(started, FunnelModel)
    differs = [n for n, p in plain.named_parameters() if not torch.equal(p, started.get_parameter(n))]
    assert (
        len(differs) == 1 and (plain.get_parameter(differs[0]) != started.get_parameter(differs[0])).any(1).sum() == 3
    )


def test_every_copy_of_a_single_task_model_starts_from_them(tmp_path: Path) -> None:
    model = build_model(tiny.experiment(**settings(tmp_path, "single_task")), tiny.fitted_encoder())
    assert torch.equal(rows_of(model), torch.from_numpy(VECTORS).repeat(1, 2))


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("optimizer", ["adam", "adam_dense"])
def test_frozen_rows_stay_and_a_bundle_needs_no_file(tmp_path: Path, frozen: bool, optimizer: str) -> None:
    table = tiny.write_table(tmp_path / "table")
    changes = settings(tmp_path, frozen=frozen) | {"optimizer": {"name": optimizer, "batch_size": 64}}
    run = train(tiny.experiment(**changes), table, tmp_path / "run")
    assert torch.equal(rows_of(run.bundle.model), torch.from_numpy(VECTORS)) == frozen
    (tmp_path / "v.parquet").unlink()
    assert torch.equal(rows_of(Bundle.load(tmp_path / "run/bundle").model), rows_of(run.bundle.model))


def test_faults(tmp_path: Path) -> None:
    wrong = settings(tmp_path)
    wrong["model"]["embedding_dims"] = {"item": 4}
    table = tiny.write_table(tmp_path / "table")
    with pytest.raises(InputError, match=r"vectors have 3 numbers, embeddings of 'item' 4"):
        train(tiny.experiment(**wrong), table, tmp_path / "run")
    wrong = settings(tmp_path)
    wrong["model"]["pretrained"]["itme"] = wrong["model"]["pretrained"].pop("item")
    with pytest.raises(ConfigError, match="pretrained.itme: is no vocabulary; did you mean 'item'"):
        train(tiny.experiment(**wrong), table, tmp_path / "run")
    wrong["model"]["pretrained"]["item"] = wrong["model"]["pretrained"].pop("itme")
    wrong["model"] = {"name": "man", "embedding": "none", "pretrained": wrong["model"]["pretrained"]}
    with pytest.raises(ConfigError, match=r"model.pretrained: needs embeddings"):
        train(tiny.experiment(**wrong), table, tmp_path / "run")
