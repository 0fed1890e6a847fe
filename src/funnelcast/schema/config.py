"""The base of everything a user declares, and how TOML files become it: all faults at once, each with its fix."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from funnelcast.errors import ConfigError, Fault, did_you_mean


class Config(BaseModel):
    """A frozen, validated declaration; unknown keys are faults; the string under a field is its documentation."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    @classmethod
    def from_toml(cls, path: Path | str, **overrides: Any) -> Self:
        """Read and validate a TOML file; `overrides` replace top-level keys. Raises ConfigError."""
        return cls.from_dict({**read_toml(Path(path)), **overrides}, source=str(path))

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str = "") -> Self:
        """Validate `values`. Raises ConfigError with every fault."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError([_fault(e, cls) for e in error.errors(include_url=False)], source) from None


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises ConfigError naming the file, and line where the syntax breaks."""
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise ConfigError([Fault(str(path), what, "give the path of a .toml file")])
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError([Fault(str(path), f"is not UTF-8 text ({error.reason} at byte {error.start})")]) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([Fault(str(path), f"is not valid TOML: {error}")]) from None
    except RecursionError:
        raise ConfigError([Fault(str(path), "is nested too deeply to read")]) from None


def _fault(error: ErrorDetails, root: type[BaseModel]) -> Fault:
    path = [str(part) for part in error["loc"]]
    where = ".".join(path) or "file"
    if error["type"] == "extra_forbidden":
        return Fault(where, "is not a setting", did_you_mean(path[-1], _known_keys(root, path[:-1])))
    if error["type"] == "missing":
        return Fault(where, "is missing", "add it")
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return Fault(where, message)
    shown = repr(error["input"])
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return Fault(where, f"{shown} is not allowed: {message[0].lower()}{message[1:]}", _literal_fix(error))


def _literal_fix(error: ErrorDetails) -> str:
    if error["type"] not in ("literal_error", "union_tag_invalid") or not isinstance(error["input"], str):
        return ""
    expected = str(error.get("ctx", {}).get("expected", ""))
    known = [part.strip().strip("'") for part in expected.replace(" or ", ", ").split(",")]
    hint = did_you_mean(error["input"], known)
    return hint if hint.startswith("did") else ""


def _known_keys(root: type[BaseModel], path: list[str]) -> list[str]:
    """The fields of the model found by following `path` from `root` through nested models, tuples, dicts and unions."""
    models = [root]
    for part in path:
        deeper = [m for model in models for m in _models_at(model, part)]
        models = deeper or models
    return list(dict.fromkeys(name for model in models for name in model.model_fields))


def _models_at(model: type[BaseModel], part: str) -> list[type[BaseModel]]:
    field = model.model_fields.get(part)
    return _models_in(field.annotation) if field else []


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for argument in getattr(annotation, "__args__", ()) for m in _models_in(argument)]
