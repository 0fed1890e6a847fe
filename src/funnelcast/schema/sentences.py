"""What the code says of settings. Not kept by pydantic, which would read all files for it at every start."""

from __future__ import annotations

import ast
import inspect
from functools import cache
from itertools import pairwise
from textwrap import dedent

from pydantic import BaseModel


@cache
def sentences_of(model: type[BaseModel]) -> dict[str, str]:
    """By field, the text that stands under it in the class that declares it last."""
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if issubclass(kind, BaseModel) and kind is not BaseModel:
            found |= _own(kind)
    return found


def _own(kind: type[BaseModel]) -> dict[str, str]:
    [declared] = ast.parse(dedent(inspect.getsource(kind))).body
    assert isinstance(declared, ast.ClassDef)
    found = {}
    for field, text in pairwise([*declared.body, ast.Pass()]):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            is_text = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
            value = text.value.value if is_text else ""  # type: ignore[attr-defined]
            found[field.target.id] = inspect.cleandoc(value) if isinstance(value, str) else ""
    return found
