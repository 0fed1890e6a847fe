"""Exported models next to `predict`: every recipe on every kind of features, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import funnelcast
from funnelcast.data.encoder import Encoder
from funnelcast.data.numeric import Bins
from funnelcast.errors import FunnelcastError
from funnelcast.exporting import check, export, readme
from funnelcast.registry import RECIPES
from funnelcast.schema.dataset import Schema
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.made_rows import made_rows
from funnelcast.serving.predictor import Predictor
from funnelcast.testing.cases import INPUTS
from tests.exporting.bundles import bundle_of, case_of

NETWORKS = [name for name, recipe in RECIPES.items() if recipe.differentiable]


@pytest.mark.slow
@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_model_says_what_predict_says(name: str, kind: str, tmp_path: Path) -> None:
    bundle = bundle_of(case_of(name, kind))
    assert export._write_encoded(bundle, tmp_path / "model.onnx") <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("kind", INPUTS)
def test_a_model_of_raw_values_says_what_predict_says(kind: str, tmp_path: Path) -> None:
    bundle = bundle_of(case_of("man", kind))
    assert export._write_raw(bundle, tmp_path / "raw.onnx") <= 1e-5


@pytest.mark.slow
def test_a_folder_is_written_whose_readme_runs(tmp_path: Path) -> None:
    bundle, folder = binned(bundle_of(case_of("shared_bottom", "all"))), tmp_path / "exported"
    made = funnelcast.export(bundle, folder)
    assert sorted(path.name for path in folder.iterdir()) == made["files"] == ["README.md", "model.onnx", "raw.onnx"]
    assert [path.name for path in tmp_path.iterdir()] == ["exported"]
    program = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    said = subprocess.run([sys.executable, "-c", program], cwd=folder, check=True, capture_output=True, text=True)
    p = Predictor(bundle).predict(pa.Table.from_batches([made_rows(bundle.encoder, readme.ROWS)]))
    for line in said.stdout.splitlines():
        name, *found = line.split()
        np.testing.assert_allclose(np.array(found, float), p[name].to_numpy(), rtol=1e-5)
    with pytest.raises(FunnelcastError, match="--replace"):
        funnelcast.export(bundle, folder)


def binned(bundle: Bundle) -> Bundle:
    """With another encoder, by which the field `last` comes of a number."""
    schema = bundle.encoder.schema.model_dump(mode="json")
    schema["features"]["last"] = {"kind": "numeric", "transform": "bins"}
    size = bundle.encoder.inputs.sizes["item"]
    numbers = {**bundle.encoder.numbers, "last": Bins(edges=tuple(range(size - 2)))}
    return replace(bundle, encoder=Encoder(Schema.from_dict(schema), bundle.encoder.vocabularies, numbers))


@pytest.mark.slow
def test_weights_that_one_file_cannot_hold_stand_next_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "LARGEST_FILE", 0)
    made = funnelcast.export(bundle_of(case_of("shared_bottom", "categorical")), tmp_path / "exported")
    assert {"model.onnx.data", "raw.onnx.data"} < {*made["files"]}


@pytest.mark.slow
def test_vocabularies_that_no_file_can_hold_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "LARGEST_VOCABULARIES", 10)
    made = funnelcast.export(bundle_of(case_of("shared_bottom", "categorical")), tmp_path / "exported")
    assert made["files"] == ["README.md", "model.onnx"]
    assert "and 10 fit into a file; use model.onnx" in made["left_out"]["raw.onnx"]
    assert "`raw.onnx` was left out" in (tmp_path / "exported/README.md").read_text()


def test_names_that_a_graph_has_twice_are_refused(tmp_path: Path) -> None:
    bundle = bundle_of(case_of("shared_bottom", "categorical"))
    schema = bundle.encoder.schema.model_dump(mode="json")
    schema["features"]["p_click"] = {"kind": "numeric"}
    encoder = replace(bundle.encoder, schema=Schema.from_dict(schema))
    with pytest.raises(FunnelcastError, match="'p_click' has the name of another"):
        funnelcast.export(replace(bundle, encoder=encoder), tmp_path / "exported")


@pytest.mark.slow
def test_a_model_that_says_otherwise_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "TOLERANCE", 0.0)
    with pytest.raises(FunnelcastError, match=r"model.onnx differs from predict by .* in log p_click"):
        funnelcast.export(bundle_of(case_of("shared_bottom", "numeric")), tmp_path / "exported")
    assert not list(tmp_path.iterdir())
