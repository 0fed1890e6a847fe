"""The page of the Python API, from signatures and docstrings of the public names."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

import funnelcast
from docs.generate.docstrings import as_markdown

_HEAD = """# Python API

Generated from the code by `scripts/docs --write`; do not edit.

All names are attributes of `funnelcast`. Importing the package imports no heavy library; a name is imported when it is
first used. Folders and files are given as paths or as texts. A mistake of the user raises
`funnelcast.FunnelcastError` or a subclass of it.
"""
_GROUPS = {
    "Verbs": (
        "prepare", "doctor", "train", "train_seeds", "evaluate", "compare", "calibrate", "load", "predict_file",
        "export", "adapt_file", "few_shot", "benchmark", "search", "report", "diagnose",
    ),
    "Data sets": ("generate", "prepare_funnel", "prepare_census", "prepare_aliccp", "prepare_aliexpress"),
    "Objects": ("FunnelClassifier", "Predictor", "Table", "Bundle", "Delta"),
    "Settings": ("Schema", "Funnel", "Experiment", "Adapting"),
    "Callbacks": ("TensorBoard", "MLflow", "Callback", "TrainBegin", "StageBegin", "StepEnd", "EpochEnd", "TrainEnd"),
    "Errors": ("FunnelcastError",),
}  # fmt: skip
"""The public names in the order of the page."""


def api_page() -> str:
    """Return the page as Markdown; raises ValueError when a public name has no place in it."""
    if left := set(funnelcast.__all__) ^ {name for names in _GROUPS.values() for name in names}:
        raise ValueError(f"the groups of the page and the public names differ in {sorted(left)}")
    lines = [_HEAD]
    for title, names in _GROUPS.items():
        lines.append(f"## {title}\n")
        for name in names:
            lines += _entry(name, getattr(funnelcast, name))
    return "\n".join(lines)


def _entry(name: str, item: Any) -> Iterator[str]:
    yield f"### {name}\n"
    if not inspect.isclass(item):
        yield f"```python\n{_signature(name, item)}\n```\n"
        yield f"{_text(item)}\n"
        return
    yield f"{_text(item)}\n"
    if issubclass(item, BaseModel):
        yield "Its fields are settings: see [settings](settings.md).\n"
    for member, value in _members(item):
        yield f"#### {name}.{member}\n"
        if isinstance(value, property):
            yield f"{_kind(value)} {_text(value)}".strip() + "\n"
        else:
            yield f"```python\n{_signature(member, value)}\n```\n"
            yield f"{_text(value)}\n"


def _kind(value: property) -> str:
    annotation = value.fget.__annotations__.get("return") if value.fget else None
    return f"Property, `{_annotation(annotation)}`." if annotation else "Property."


def _members(item: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties that a class or a base of ours defines."""
    found: dict[str, Any] = {}
    for kind in reversed(item.__mro__):
        if kind.__module__.partition(".")[0] == "funnelcast":
            found |= {name: value for name, value in vars(kind).items() if not name.startswith("_")}
    for name, value in found.items():
        if isinstance(value, classmethod | staticmethod):
            yield name, value.__func__
        elif hasattr(value, "attrname") and hasattr(value, "func"):
            yield name, property(value.func)
        elif isinstance(value, property) or (inspect.isfunction(value) and value.__doc__):
            yield name, value


def _signature(name: str, function: Any) -> str:
    """Return the signature, a parameter a line where it is long."""
    signature = inspect.signature(function)
    parameters = [p for p in signature.parameters.values() if p.name not in ("self", "cls")]
    texts = [_parameter(p) for p in parameters]
    keyword_only = next((i for i, p in enumerate(parameters) if p.kind is p.KEYWORD_ONLY), None)
    if keyword_only is not None and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        texts.insert(keyword_only, "*")
    result = "" if signature.return_annotation is signature.empty else f" -> {_annotation(signature.return_annotation)}"
    short = f"{name}({', '.join(texts)}){result}"
    return short if len(short) <= 88 else f"{name}(\n" + "".join(f"    {text},\n" for text in texts) + f"){result}"


def _parameter(parameter: inspect.Parameter) -> str:
    text = str(parameter.replace(annotation=parameter.empty, default=parameter.empty))  # with its stars
    if parameter.annotation is not parameter.empty:
        text += f": {_annotation(parameter.annotation)}"
    if parameter.default is parameter.empty:
        return text
    default = "..." if callable(parameter.default) else repr(parameter.default)
    return f"{text} = {default}"


def _annotation(annotation: Any) -> str:
    return (
        annotation if isinstance(annotation, str) else re.sub(r"\w+\.(?=\w)", "", inspect.formatannotation(annotation))
    )


def _text(item: Any) -> str:
    return as_markdown(inspect.getdoc(item) or "")
