"""The base of everything a user declares, and how TOML files become it: all faults at once, each with its fix."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from funnelcast.errors import ConfigError, Fault, did_you_mean
from funnelcast.schema.location import locate


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
            faults = [fault for details in error.errors(include_url=False) for fault in _faults(details, cls)]
            raise ConfigError(faults, source) from None


class FaultsError(ValueError):
    """Several faults that one validator found; each is told by itself, `where` counted from the validator's model."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(map(str, faults)))


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


def _faults(error: ErrorDetails, root: type[BaseModel]) -> list[Fault]:
    path, models = locate(error["loc"], root)
    where = ".".join(path)
    context = error.get("ctx", {})
    if isinstance(several := context.get("error"), FaultsError):
        return [Fault(".".join(filter(None, (where, f.where))), f.problem, f.fix) for f in several.faults]
    where = where or "file"
    match error["type"]:
        case "extra_forbidden":
            known = [name for model in models for name in model.model_fields]
            return [Fault(where, "is not a setting", did_you_mean(path[-1], dict.fromkeys(known)))]
        case "missing":
            return [Fault(where, "is missing", "add it")]
        case "value_error":
            return [Fault(where, error["msg"].removeprefix("Value error, "))]
        case "union_tag_invalid":
            tag = str(context["tag"])
            return [Fault(f"{where}.{_word(context['discriminator'])}", *_not_one_of(tag, context["expected_tags"]))]
        case "literal_error" if isinstance(error["input"], str):
            return [Fault(where, *_not_one_of(error["input"], context["expected"]))]
    message = error["msg"]
    return [Fault(where, f"{_shown(error['input'])} is not allowed: {message[0].lower()}{message[1:]}")]


def _not_one_of(value: str, expected: str) -> tuple[str, str]:
    """Problem and fix of a word that is none of those pydantic lists as `'a', 'b' or 'c'`."""
    known = [_word(part) for part in expected.replace(" or ", ", ").split(",")]
    return f"{_shown(value)} is not one of {', '.join(known)}", _near(value, known)


def _near(value: str, known: list[str]) -> str:
    hint = did_you_mean(value, known)
    return hint if hint.startswith("did") else ""


def _word(quoted: str) -> str:
    return quoted.strip().strip("'")


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
