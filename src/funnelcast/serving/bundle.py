"""A bundle: all that a trained model needs to predict, in one folder.

BUNDLE/bundle.json         format, versions, experiment, protocol, metrics, sha256 of every file
BUNDLE/weights.safetensors what was learned; of boosters boosters.json, step-0.txt … and statistics.safetensors
BUNDLE/trees/, stacking.json boosted trees next to a network, and what they have of each step
BUNDLE/factors.safetensors what `serving.starting` tells of
BUNDLE/calibration.json    maps of the steps' log odds, where it is calibrated
BUNDLE/golden.parquet      raw rows with the probabilities that it gave them when it was saved
BUNDLE/encoder.json, vocabularies/
"""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from funnelcast.boosting.lightgbm import LightGBM
from funnelcast.boosting.stacked import Stacked, network_of
from funnelcast.calibration.calibration import FILE, Calibration
from funnelcast.data.encoder import Encoder
from funnelcast.data.files import new_folder, sha256
from funnelcast.errors import BundleError
from funnelcast.models.base import Model
from funnelcast.registry import recipe_of
from funnelcast.serving.golden import save_golden
from funnelcast.serving.starting import load_starting, save_starting
from funnelcast.training.adapting import Starting

FORMAT_VERSION = 2
_LIBRARIES = ("funnelcast", "torch", "numpy", "pyarrow")


@dataclass(frozen=True)
class Bundle:
    """A model, what encodes its input, and where it comes from."""

    model: Model
    encoder: Encoder
    experiment: dict[str, Any]
    """The experiment's settings, with those left at their defaults."""
    protocol: dict[str, str]
    """Name and fingerprint of the table it was trained on."""
    rates: list[float]
    """Rate of each step in the training rows: what the constant predictor says."""
    metrics: dict[str, Any]
    """What was measured when it was made, by part."""
    starting: Starting | None = None
    """What a network has from its training, for adapting; none for what cannot adapt."""
    calibration: Calibration | None = None
    """What the model's probabilities are corrected by; none where they are not."""

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that decides a probability, 12 hex digits."""
        own = self.model.fingerprint
        if self.calibration is None or self.calibration.is_identity:
            return own
        return hashlib.sha256(f"{own} {self.calibration.fingerprint}".encode()).hexdigest()[:12]

    @property
    def keep_negatives(self) -> float:
        """Share of negatives in training, for which probabilities are corrected."""
        return float(self.experiment["keep_negatives"])

    def save(self, folder: Path | str, *, replace: bool = False) -> None:
        """Write the bundle; it is whole or not there."""
        with new_folder(Path(folder), replace=replace) as partial:
            self.encoder.save(partial)
            self.model.save(partial)
            starting = None if self.starting is None else save_starting(self.starting, partial)
            if self.calibration is not None:
                self.calibration.save(partial)
            save_golden(self, partial)
            files = sorted(path for path in partial.rglob("*") if path.is_file())
            described = {
                "format": FORMAT_VERSION,
                "versions": {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
                "experiment": self.experiment,
                "protocol": self.protocol,
                "rates": self.rates,
                "starting": starting,
                "metrics": self.metrics,
                "sha256": {path.relative_to(partial).as_posix(): sha256(path) for path in files},
            }
            described["checksum"] = _checksum(described)
            (partial / "bundle.json").write_text(_text(described))

    @classmethod
    def load(cls, folder: Path | str) -> Bundle:
        """Raises BundleError when the folder is no whole bundle of this version, FunnelcastError where a package that
        its model needs is missing."""
        folder = Path(folder)
        described = _describe(folder)
        encoder = Encoder.load(folder)
        model = model_of(described["experiment"], encoder)
        model.load(folder)
        said = described
        experiment, kept = said["experiment"], said["starting"]
        starting = None if kept is None else load_starting(kept, experiment, folder)
        calibration = Calibration.load(folder) if FILE in said["sha256"] else None
        return cls(model, encoder, experiment, said["protocol"], said["rates"], said["metrics"], starting, calibration)


def model_of(experiment: dict[str, Any], encoder: Encoder) -> Model:
    """Of an experiment's settings, with nothing learned."""
    model = recipe_of(experiment["model"]).build(encoder.inputs, encoder.schema.funnel)
    if experiment.get("stacking") is None:
        return model
    trees = LightGBM.from_dict(experiment["stacking"]).build(encoder.inputs, encoder.schema.funnel)
    return Stacked(network_of(model), trees)


def _text(described: dict[str, Any]) -> str:
    return json.dumps(described, indent=1)


def _checksum(described: dict[str, Any]) -> str:
    """Of everything else that bundle.json says."""
    rest = {name: value for name, value in described.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _describe(folder: Path) -> dict[str, Any]:
    path = folder / "bundle.json"
    if not path.is_file():
        what = "has no bundle.json" if folder.is_dir() else "is not a folder"
        hint = "; make one with: funnelcast train"
        if (folder / "bundle").is_dir():
            hint = "; a run's bundle is RUN/bundle"
        elif (folder / "manifest.json").is_file():
            hint = " but a prepared table; the bundle comes first"
        elif folder.is_file():
            hint = "; the bundle comes first"
        raise BundleError(f"{folder} {what}, so it is no bundle{hint}")
    try:
        text = path.read_text()
        described: dict[str, Any] = json.loads(text)
        found = described["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path} is damaged ({error}); train again, or restore it from a copy") from None
    if found != FORMAT_VERSION:
        raise BundleError(f"{folder} has bundle format {found}, this version reads {FORMAT_VERSION}; train again")
    if described.get("checksum") != _checksum(described) or text != _text(described):
        raise BundleError(f"{path} differs from its checksum; restore the bundle from a copy")
    for name, expected in described["sha256"].items():
        if not (folder / name).is_file() or sha256(folder / name) != expected:
            raise BundleError(
                f"{folder / name} is missing or differs from its checksum; restore the bundle from a copy"
            )
    return described
