"""Bundles: what is saved is what is loaded, and every damage is told."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from funnelcast.data.encoder import Encoder
from funnelcast.errors import BundleError, FunnelcastError
from funnelcast.experiments.fit import build_model
from funnelcast.registry import RECIPES
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.predictor import Predictor
from tests import tiny


def bundle_of(encoder: Encoder | None = None, **changes: Any) -> Bundle:
    """Of a model with random parameters, larger than fresh ones."""
    experiment = tiny.experiment(**changes)
    encoder = encoder or tiny.fitted_encoder()
    described = experiment.model_dump(mode="json")
    protocol = {"name": "tiny", "fingerprint": "0" * 12}
    model = build_model(experiment, encoder)
    noise = torch.Generator().manual_seed(experiment.seed)
    for parameter in model.parameters():
        parameter.data += 0.5 * torch.randn(parameter.shape, generator=noise)
    return Bundle(model, encoder, described, protocol, [0.1 + 0.2, 0.1], {"dev": {}})


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    bundle_of().save(folder)
    return folder


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.differentiable])
def test_a_loaded_bundle_predicts_bit_by_bit_what_the_saved_one_did(name: str, tmp_path: Path) -> None:
    bundle = bundle_of(model={"name": name, "tower": [4], "tower_dropout": []}, keep_negatives=0.3)
    bundle.save(tmp_path / "bundle")
    loaded = Bundle.load(tmp_path / "bundle")
    log = tiny.draw_log(100)
    before, after = Predictor(bundle).predict(log), Predictor(loaded).predict(log)
    assert before.equals(after)
    assert (loaded.experiment, loaded.protocol, loaded.rates) == (bundle.experiment, bundle.protocol, bundle.rates)
    assert loaded.metrics == bundle.metrics
    assert loaded.fingerprint == bundle.fingerprint
    assert loaded.keep_negatives == 0.3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]


def test_the_fingerprint_is_of_the_parameters() -> None:
    assert bundle_of(name="other").fingerprint == bundle_of().fingerprint != bundle_of(seed=1).fingerprint
    assert len(bundle_of().fingerprint) == 12


def test_an_existing_bundle_is_replaced_on_demand_only(saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "bundle"))
    with pytest.raises(FunnelcastError, match="exists already"):
        bundle_of(seed=1).save(folder)
    assert Bundle.load(folder).fingerprint == bundle_of().fingerprint
    bundle_of(seed=1).save(folder, replace=True)
    assert Bundle.load(folder).fingerprint == bundle_of(seed=1).fingerprint


def files() -> list[str]:
    own = ["bundle.json", "golden.parquet", "weights.safetensors", "encoder.json"]
    return [*own, "vocabularies/0.parquet", "vocabularies/1.parquet"]


def test_these_are_all_files(saved: Path) -> None:
    assert sorted(p.relative_to(saved).as_posix() for p in saved.rglob("*") if p.is_file()) == sorted(files())


@pytest.mark.parametrize("name", files())
def test_a_missing_file(saved: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "bundle"))
    (folder / name).unlink()
    with pytest.raises(BundleError, match=name):
        Bundle.load(folder)


@pytest.mark.parametrize("name", files())
def test_a_flipped_byte(saved: Path, tmp_path: Path, name: str) -> None:
    """Wherever it is: in `bundle.json` too, where most bytes would otherwise change a setting without a word."""
    folder = Path(shutil.copytree(saved, tmp_path / "bundle"))
    content = (folder / name).read_bytes()
    offsets = [i for i in range(len(content)) if not content[i : i + 1].isspace()]
    for place in np.random.default_rng(0).choice(offsets, min(60, len(offsets)), replace=False):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(place) % 7
        (folder / name).write_bytes(flipped)
        with pytest.raises(BundleError, match=r"bundle"):
            Bundle.load(folder)


def test_a_flipped_bit_that_leaves_a_number_what_it_was(saved: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(saved, tmp_path / "bundle")) / "bundle.json"
    text = path.read_text()
    assert "1e-06" in text
    path.write_text(text.replace("1e-06", "1E-06", 1))
    with pytest.raises(BundleError, match="differs from its checksum"):
        Bundle.load(path.parent)


@pytest.mark.parametrize("name", files())
def test_a_truncated_file(saved: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "bundle"))
    content = (folder / name).read_bytes()
    for length in (0, 1, len(content) // 2, len(content) - 1):
        (folder / name).write_bytes(content[:length])
        with pytest.raises(BundleError, match=name):
            Bundle.load(folder)


def described(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        content = json.loads((folder / "bundle.json").read_text())
        change(content)
        (folder / "bundle.json").write_text(json.dumps(content))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (described(lambda d: d.update(format=1)), "has bundle format 1, this version reads 2; train again"),
        (described(lambda d: d.pop("format")), "is damaged"),
        (described(lambda d: d.pop("sha256")), "differs from its checksum"),
        (described(lambda d: d.pop("checksum")), "differs from its checksum"),
        (described(lambda d: d["experiment"].update(keep_negatives=0.5)), "differs from its checksum"),
        (lambda folder: (folder / "bundle.json").write_text("[]"), "is damaged"),
        (lambda folder: (folder / "bundle.json").write_bytes(b"\xff"), "is damaged"),
    ],
)
def test_other_versions_and_edits(saved: Path, tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "bundle"))
    damage(folder)
    with pytest.raises(BundleError, match=message):
        Bundle.load(folder)


def test_what_is_no_bundle_at_all(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a folder, so it is no bundle; make one with: funnelcast train"):
        Bundle.load(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="has no bundle.json"):
        Bundle.load(tmp_path)
    with pytest.raises(BundleError, match="a run's bundle is RUN/bundle"):
        Bundle.load(saved.parent)
    (tmp_path / "manifest.json").touch()
    with pytest.raises(BundleError, match="so it is no bundle but a prepared table; the bundle comes first"):
        Bundle.load(tmp_path)
    with pytest.raises(BundleError, match="is not a folder, so it is no bundle; the bundle comes first"):
        Bundle.load(tmp_path / "manifest.json")
