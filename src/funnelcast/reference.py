"""The reference page of settings, from the settings themselves: `scripts/docs --write` writes it."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from funnelcast.benchmarks.search.config import Search
from funnelcast.benchmarks.suite import Suite
from funnelcast.calibration.config import CalibrationConfig
from funnelcast.experiments.experiment import Experiment
from funnelcast.models.base import Recipe
from funnelcast.models.network import ExpertRecipe, NetworkRecipe
from funnelcast.models.reading import Pretrained, StatisticsConfig, Target, Transformer
from funnelcast.registry import RECIPES
from funnelcast.schema.dataset import Schema, Split
from funnelcast.schema.features import Categorical, MultiValued, Numeric, Sequence
from funnelcast.schema.funnel import Funnel
from funnelcast.schema.sentences import sentences_of
from funnelcast.training.adapting import Adapting
from funnelcast.training.losses import LossConfig
from funnelcast.training.optimizers import OptimizerConfig
from funnelcast.training.stages import Meta, Stage

_SHARED: list[tuple[str, type[BaseModel]]] = [
    ("[model], every model", Recipe),
    ("[model], every network", NetworkRecipe),
    ("[model], every network with experts", ExpertRecipe),
]
_PAGES: dict[str, list[tuple[str, type[BaseModel]]]] = {
    "Schema file": [
        ("top level", Schema),
        ("[funnel]", Funnel),
        ("[split]", Split),
        ('[features], kind = "categorical"', Categorical),
        ('[features], kind = "numeric"', Numeric),
        ('[features], kind = "multi"', MultiValued),
        ('[features], kind = "sequence"', Sequence),
    ],
    "Experiment file": [
        ("top level", Experiment),
        *_SHARED,
        *((f'[model], name = "{name}"', recipe) for name, recipe in RECIPES.items()),
        ('[model.pooling], kind = "target_attention"', Target),
        ('[model.pooling], kind = "transformer"', Transformer),
        ("[model.pretrained]", Pretrained),
        ("[model.statistics]", StatisticsConfig),
        ("[loss]", LossConfig),
        ("[calibration]", CalibrationConfig),
        ("[optimizer]", OptimizerConfig),
        ("[[stages]]", Stage),
        ("[stages.meta]", Meta),
    ],
    "Benchmark file": [
        ("top level", Suite),
        ("top level, of a search besides", Search),
    ],
    "Adapting": [
        ("funnelcast adapt --set, and funnelcast.Adapting", Adapting),
    ],
}


def reference() -> str:
    """The page as Markdown: a table per section with name, default, values, and the sentence in the code."""
    lines = ["# Settings", "", "Generated from the code by `scripts/docs --write`; do not edit.", ""]
    for page, sections in _PAGES.items():
        lines += [f"## {page}", ""]
        for title, model in sections:
            lines += [f"### {title}", "", "| setting | default | what it does |", "|---|---|---|"]
            lines += [_row(name, *own) for name, own in _own_fields(model).items()]
            lines.append("")
    return "\n".join(lines)


def _own_fields(model: type[BaseModel]) -> dict[str, tuple[FieldInfo, str]]:
    """Those that no table further up has told with the same words and default, and their words."""
    bases: list[type[BaseModel]] = [*(shared for _, shared in _SHARED), Suite]
    inherited: dict[str, tuple[FieldInfo, str]] = {}
    for base in bases:
        if issubclass(model, base) and model is not base:
            inherited |= _fields(base)
    return {
        name: own for name, own in _fields(model).items() if name not in inherited or _differs(own, inherited[name])
    }


def _fields(model: type[BaseModel]) -> dict[str, tuple[FieldInfo, str]]:
    return {name: (field, sentences_of(model).get(name, "")) for name, field in model.model_fields.items()}


def _differs(own: tuple[FieldInfo, str], other: tuple[FieldInfo, str]) -> bool:
    return (own[0].default, own[1]) != (other[0].default, other[1])


def _row(name: str, field: FieldInfo, sentence: str) -> str:
    text = " ".join(sentence.split()).replace("|", "\\|")
    return f"| `{name}` | {_default(field)} | {text}{_choices(field.annotation)} |"


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "required"
    return "its own table" if _is_table(value) else f"`{_toml(value)}`" if value is not None else "none"


def _is_table(value: Any) -> bool:
    values = value if isinstance(value, tuple) else (value,)
    return any(isinstance(v, BaseModel) for v in values)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _choices(annotation: Any) -> str:
    """Those of a setting that takes no other values."""
    is_union = get_origin(annotation) in (Union, UnionType)
    members = [m for m in (get_args(annotation) if is_union else (annotation,)) if m is not NoneType]
    if any(get_origin(member) is not Literal for member in members):
        return ""
    found = [choice for member in members for choice in get_args(member)]
    return f" One of {', '.join(f'`{choice}`' for choice in found)}." if len(found) > 1 else ""
