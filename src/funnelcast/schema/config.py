"""The base of everything a user declares, and how TOML files become it: all faults at once, each with its fix."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, ErrorDetails

from funnelcast.errors import ConfigError, Fault, did_you_mean
from funnelcast.schema.fixes import fix_of
from funnelcast.schema.kinds import require_kind
from funnelcast.schema.location import locate


def _make_strict(schema: Any) -> None:
    """Let no number or flag below a node of pydantic's schema be anything else."""
    if isinstance(schema, dict):
        if schema.get("type") in ("int", "float", "bool"):
            schema["strict"] = True
        for value in schema.values():
            _make_strict(value)
    elif isinstance(schema, (list, tuple)):
        for value in schema:
            _make_strict(value)


class Config(BaseModel):
    """A frozen, validated declaration; unknown keys are faults; the string under a field is its documentation."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    file_kind: ClassVar[str] = ""
    """Of `KINDS`, where files of several kinds are given by users."""

    def __init__(self, **values: Any) -> None:
        """Raises ConfigError with every fault."""
        try:
            super().__init__(**values)
        except ValidationError as error:
            kind = type(self)
            raise ConfigError(_all_faults(error.errors(include_url=False), kind), kind.__name__) from None

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # tables in files are validated without it

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Pydantic's own, but a number is a number and a flag a flag: neither is read from a text or from the other."""
        schema = handler(source)
        _make_strict(schema)
        return schema

    @classmethod
    def from_toml(cls, path: Path | str, **overrides: Any) -> Self:
        """Read and validate a TOML file; `overrides` replace top-level keys. Raises ConfigError."""
        settings = read_toml(Path(path))
        if cls.file_kind:
            require_kind(Path(path), settings, cls.file_kind)
        return cls.from_dict({**settings, **overrides}, source=str(path))

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str = "") -> Self:
        """Validate `values`. Raises ConfigError with every fault."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(_all_faults(error.errors(include_url=False), cls), source) from None


_PLAIN = {
    "tuple_type": "a list is needed",
    "list_type": "a list is needed",
    "dict_type": "a table is needed",
    "model_type": "a table is needed",
    "model_attributes_type": "a table is needed",
    "too_short": "more items are needed",
    "path_type": "a path is needed, as text",
}
"""What pydantic says in Python's words, in those of TOML."""


class FaultsError(ValueError):
    """Several faults that one validator found; each is told by itself, `where` counted from the validator's model."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(map(str, faults)))


def require_file(path: Path, names: Iterable[str] = ()) -> None:
    """Raises ConfigError where `path` is no file, with the nearest of the .toml files beside it and of `names`."""
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        known = [*names, *sorted(file.name for file in path.parent.glob("*.toml"))]
        raise ConfigError([Fault(str(path), what, _near(path.name, known) or "give the path of a .toml file")])


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises ConfigError naming the file, and line where the syntax breaks."""
    require_file(path)
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError([Fault(str(path), f"is not UTF-8 text ({error.reason} at byte {error.start})")]) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([Fault(str(path), f"is not valid TOML: {error}")]) from None
    except RecursionError:
        raise ConfigError([Fault(str(path), "is nested too deeply to read")]) from None
    if not settings:
        raise ConfigError([Fault(str(path), "is empty", "write its settings, or restore it from a copy")])
    return settings


def _all_faults(errors: list[ErrorDetails], root: type[BaseModel]) -> list[Fault]:
    """One fault per place: what pydantic says once for each member of a union, and again for the list or table around
    a fault, is told once."""
    found: dict[tuple[str, ...], list[Fault]] = {}
    for error in errors:
        found.setdefault(tuple(locate(error["loc"], root)[0]), []).extend(_faults(error, root))
    inner = [path for path in found if not any(path == other[: len(path)] for other in found if other != path)]
    return [fault for path in inner for fault in _merged(found[path])]


def _merged(faults: list[Fault]) -> list[Fault]:
    """Those of one place: of several that the members of a union gave, the one that says what was meant, else all in
    one."""
    if len({fault.where for fault in faults}) > 1 or len(faults) == 1:
        return faults
    for start in ("did you mean", "write ["):
        if hinted := [fault for fault in faults if fault.fix.startswith(start)]:
            return hinted[:1]
    problems, fixes = (dict.fromkeys(texts) for texts in zip(*((f.problem, f.fix) for f in faults), strict=True))
    return [Fault(faults[0].where, ", and ".join(problems), ", or ".join(filter(None, fixes)))]


def _faults(error: ErrorDetails, root: type[BaseModel]) -> list[Fault]:
    path, models = locate(error["loc"], root)
    where = ".".join(part or "''" for part in path)
    context = error.get("ctx", {})
    if isinstance(several := context.get("error"), FaultsError):
        return [Fault(".".join(filter(None, (where, f.where))), f.problem, f.fix) for f in several.faults]
    where = where or "file"
    match error["type"]:
        case "extra_forbidden":
            known = [name for model in models for name in model.model_fields]
            hint = did_you_mean(path[-1], dict.fromkeys(known))
            return [Fault(where, "is not a setting", f"{hint} (its value is {_shown(error['input'])})")]
        case "missing":
            return [Fault(where, "is missing", "add it")]
        case "value_error":
            return [Fault(where, error["msg"].removeprefix("Value error, "))]
        case "union_tag_invalid":
            tag = str(context["tag"])
            return [Fault(f"{where}.{_word(context['discriminator'])}", *_not_one_of(tag, context["expected_tags"]))]
        case "union_tag_not_found" if isinstance(error["input"], dict):
            return [Fault(f"{where}.{_word(context['discriminator'])}", "is missing", "add it")]
        case "literal_error" if isinstance(error["input"], str):
            return [Fault(where, *_not_one_of(error["input"], context["expected"]))]
    message = _PLAIN.get(error["type"], error["msg"])
    problem = f"{_shown(error['input'])} is not allowed: {message[0].lower()}{message[1:]}"
    is_of_tables = locate((*error["loc"], 0, ""), root)[1] != models
    return [Fault(where, problem, fix_of(error, where, of_tables=is_of_tables))]


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
