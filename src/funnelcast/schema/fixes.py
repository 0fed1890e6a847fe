"""What to write instead of a value that pydantic refuses, by the kind of its error."""

from __future__ import annotations

from typing import Any

from pydantic_core import ErrorDetails

_FIXES = {
    "greater_than": "give a number above {gt}",
    "greater_than_equal": "give {ge} or more",
    "less_than": "give a number below {lt}",
    "less_than_equal": "give {le} or less",
    "finite_number": "give a finite number",
    "int_type": "give a whole number",
    "int_from_float": "give a whole number",
    "float_type": "give a number",
    "bool_type": "write true or false",
    "string_type": "write it in quotes",
    "path_type": "write it in quotes",
    "string_too_short": "write at least {min_length}",
    "string_too_long": "write at most {max_length}",
    "string_pattern_mismatch": "use letters, digits, '_', '-' and '.'",
    "too_short": "give at least {min_length}",
    "too_long": "give at most {max_length}",
    "literal_error": "write one of {expected}",
    "dict_type": "write {{setting = value}}",
    "model_type": "write {{setting = value}}",
    "model_attributes_type": "write {{setting = value}}",
}


def fix_of(error: ErrorDetails, where: str, *, of_tables: bool) -> str:
    """The fix of an error at `where`; `of_tables`: whether a list that is needed there is one of tables."""
    value = error["input"]
    if error["type"] not in ("tuple_type", "list_type"):
        return _FIXES.get(error["type"], "").format(**error.get("ctx", {}))
    if of_tables and isinstance(value, dict):
        return f"write [[{where}]]"
    one = f"write [{_toml(value)}]"
    return one if isinstance(value, (str, int, float)) and len(one) <= 60 else "write [value, value]"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
