"""The best settings of a search, as files that train and compare them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from funnelcast.benchmarks.search.config import Search
from funnelcast.benchmarks.search.space import with_settings
from funnelcast.benchmarks.suite import slug
from funnelcast.data.files import write_atomic
from funnelcast.experiments.experiment import Experiment


def write_winners(
    folder: Path, config: Search, experiments: Mapping[str, Experiment], found: Mapping[str, Mapping[str, Any]]
) -> None:
    """A file per model, and suite.toml. Models without a finished trial have none."""
    folder.mkdir(parents=True, exist_ok=True)
    models = {}
    for model, experiment in experiments.items():
        best = found[model]["best"]
        if best is None:
            continue
        won = with_settings(experiment, best["settings"], model)
        said = (
            f"# {model}, by the search {config.name}: trial {best['number'] + 1} of {len(found[model]['trials'])}, "
            f"{config.metric} {best['value']:.4f} on the dev rows.\n"
        )
        values = won.model_dump(mode="json", exclude_defaults=True, exclude={"data", "name", "seed"})
        named = {"name": f"{config.name}-{slug(model)}", **values}
        named["model"] = {"name": won.model.name, **values.get("model", {})}
        text = said + _toml(named)
        write_atomic(folder / f"{slug(model)}.toml", text.encode())
        models[model] = f"{slug(model)}.toml"
    kept = {"name", "title", "source", "rows", "data", "seeds", "splits", "split_by", "reference", "published"}
    suite = config.model_dump(mode="json", include=kept, exclude_defaults=True)
    suite |= {"name": f"{config.name}-winners", "models": models}
    if config.reference not in models:
        suite.pop("reference", None)
    if models:
        write_atomic(folder / "suite.toml", _toml(suite).encode())


def _toml(values: dict[str, Any]) -> str:
    """Plain values before tables, which TOML wants."""
    text: str = importlib.import_module("tomli_w").dumps(_without_none(values))
    return text


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(own) for key, own in value.items() if own is not None}
    return [_without_none(own) for own in value] if isinstance(value, list) else value
