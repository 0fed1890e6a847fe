"""Exported models next to `predict`: every recipe on every kind of features, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import funnelcast
from funnelcast.errors import FunnelcastError
from funnelcast.exporting import check, export
from funnelcast.registry import RECIPES
from funnelcast.testing.cases import INPUTS
from tests.exporting.bundles import bundle_of, case_of

NETWORKS = [name for name, recipe in RECIPES.items() if recipe.differentiable]


@pytest.mark.slow
@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_model_says_what_predict_says(name: str, kind: str, tmp_path: Path) -> None:
    bundle = bundle_of(case_of(name, kind))
    assert export._write(bundle, tmp_path / "model.onnx") <= 1e-5


@pytest.mark.slow
def test_a_folder_is_written(tmp_path: Path) -> None:
    bundle = bundle_of(case_of("shared_bottom", "categorical"))
    made = funnelcast.export(bundle, tmp_path / "exported")
    assert sorted(path.name for path in (tmp_path / "exported").iterdir()) == made["files"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exported"]
    with pytest.raises(FunnelcastError, match="--replace"):
        funnelcast.export(bundle, tmp_path / "exported")


@pytest.mark.slow
def test_a_model_that_says_otherwise_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "TOLERANCE", 0.0)
    with pytest.raises(FunnelcastError, match=r"model.onnx differs from predict by .* in log p_click"):
        funnelcast.export(bundle_of(case_of("shared_bottom", "numeric")), tmp_path / "exported")
    assert not list(tmp_path.iterdir())
