"""Faults of a file: all at once, where the user wrote them, each with its fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field

from funnelcast.errors import ConfigError
from funnelcast.schema.config import Config, read_toml, require_file
from funnelcast.schema.dataset import Schema


def faults(**changes: Any) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        Schema.from_dict({"funnel": "click; buy after click", "features": {"user": "categorical"}, **changes}, "x.toml")
    assert str(raised.value).startswith("x.toml has ")
    return [str(fault) for fault in raised.value.faults]


def test_all_faults_of_a_file_are_told_at_once() -> None:
    found = faults(splt={}, split={"by": "tme"}, features={"a": {"kind": "numeric", "bins": 1}, "b": {"min_count": 0}})
    assert {fault.partition(":")[0] for fault in found} == {
        "splt",
        "split.by",
        "features.a.bins",
        "features.b.min_count",
    }


@pytest.mark.parametrize(
    ("feature", "expected"),
    [
        ("catgorical", "features.x.kind: 'catgorical' is not one of categorical, numeric, multi, sequence; "
                       "did you mean 'categorical'?"),
        ({"kind": "numeric", "transfrm": "bins"}, "features.x.transfrm: is not a setting; did you mean 'transform'? "
                                                   "(its value is 'bins')"),
        ({"clumn": "y"}, "features.x.clumn: is not a setting; did you mean 'column'? (its value is 'y')"),
        ({"kind": "numeric", "transform": "bin"}, "features.x.transform: 'bin' is not one of standard, piecewise, "
                                                  "bins; did you mean 'bins'?"),
        ({"kind": "sequence", "max_length": 0}, "features.x.max_length: 0 is not allowed: "
                                                "input should be greater than or equal to 1; give 1 or more"),
    ],
)  # fmt: skip
def test_a_fault_stands_where_the_user_wrote_it(feature: Any, expected: str) -> None:
    assert faults(features={"x": feature}) == [expected]


def test_a_feature_named_like_a_kind_keeps_its_name_in_the_fault() -> None:
    [fault] = faults(features={"numeric": {"kind": "numeric", "bin": 3}})
    assert fault == "features.numeric.bin: is not a setting; did you mean 'bins'? (its value is 3)"


def test_faults_in_lists_and_tables_of_other_kinds() -> None:
    [steps, *_] = faults(funnel={"steps": [{"name": "click", "aftr": "x"}]})
    assert steps == "funnel.steps.0.aftr: is not a setting; did you mean 'after'? (its value is 'x')"
    assert faults(spilt={}) == ["spilt: is not a setting; did you mean 'split'? (its value is {})"]
    assert faults(name="a b")[0].startswith("name: 'a b' is not allowed: string should match pattern")
    assert faults(funnel={"on_broken": "imply"}) == ["funnel.steps: is missing; add it"]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"seed": True}, "split.seed: True is not allowed: input should be a valid integer; give a whole number"),
        ({"seed": "3"}, "split.seed: '3' is not allowed: input should be a valid integer; give a whole number"),
        ({"seed": 1.0}, "split.seed: 1.0 is not allowed: input should be a valid integer; give a whole number"),
        ({"dev": False}, "split.dev: False is not allowed: input should be a valid number; give a number"),
        ({"dev": "0.1"}, "split.dev: '0.1' is not allowed: input should be a valid number; give a number"),
    ],
)
def test_a_number_is_neither_a_text_nor_a_flag(setting: dict[str, Any], expected: str) -> None:
    assert faults(split=setting) == [expected]


class Inner(Config):
    size: int = 1
    """Size."""


class Outer(Config):
    share: float = Field(default=0.5, gt=0, lt=1)
    """Share."""
    count: int = Field(default=1, ge=1, le=9)
    """Count."""
    name: str = Field(default="a", pattern=r"^[\w.-]+$", max_length=3)
    """Name."""
    flag: bool = False
    """Flag."""
    words: tuple[str, ...] = Field(default=("a",), min_length=1)
    """Words."""
    parts: tuple[Inner, ...] = ()
    """Parts."""
    inner: Inner = Inner()
    """Inner."""
    level: Literal["low"] | Literal[1, 2] | tuple[Literal["top"], ...] = 1
    """Level."""


@pytest.mark.parametrize(
    ("key", "value", "fix"),
    [
        ("share", 0, "give a number above 0.0"),
        ("share", 1, "give a number below 1.0"),
        ("share", float("inf"), "give a finite number"),
        ("count", 0, "give 1 or more"),
        ("count", 10, "give 9 or less"),
        ("count", 1.5, "give a whole number"),
        ("name", "a b", "use letters, digits, '_', '-' and '.'"),
        ("name", "abcd", "write at most 3"),
        ("name", 1, "write it in quotes"),
        ("flag", "yes", "write true or false"),
        ("words", [], "give at least 1"),
        ("words", "x", 'write ["x"]'),
        ("words", {"a": 1}, "write [value, value]"),
        ("parts", {"size": 1}, "write [[parts]]"),
        ("inner", "x", "write {setting = value}"),
        ("level", "top", 'write ["top"]'),
        ("level", "lo", "did you mean 'low'?"),
        ("sizes", 3, "known: share, count, name, flag, words, parts, inner, level (its value is 3)"),
    ],
)
def test_every_fault_names_key_value_and_fix(key: str, value: Any, fix: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Outer.from_dict({key: value})
    [fault] = raised.value.faults
    assert (fault.where, fault.fix) == (key, fix) and str(value) in str(fault)


def test_what_is_made_in_python_is_told_all_its_faults_too() -> None:
    with pytest.raises(ConfigError) as raised:
        Outer(share=2, cuont=1)  # type: ignore[call-arg]
    assert str(raised.value).startswith("Outer has 2 faults:\n  ")
    assert "https" not in str(raised.value) and raised.value.__suppress_context__
    with pytest.raises(ConfigError, match="Inner has 1 fault"):
        Outer(inner=Inner(size="x"))  # type: ignore[arg-type]
    assert Outer(count=2) == Outer.from_dict({"count": 2})


def test_a_whole_number_is_a_number() -> None:
    schema = Schema.from_dict({"funnel": "click", "features": {"user": {}}, "split": {"dev": 0}})
    assert schema.split.dev == 0.0


def test_long_values_are_shortened() -> None:
    [fault] = faults(keep="x" * 500)
    assert len(fault) < 150


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a = [", "is not valid TOML"),
        (b'name = "\xff"', "is not UTF-8 text"),
        (b"a = " + b"[" * 5000, "is not valid TOML|is nested too deeply"),
        (b"", "is empty; write its settings"),
        (b"# nothing\n", "is empty; write its settings"),
    ],
)
def test_unreadable_files(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=expected) as raised:
        read_toml(path)
    assert str(path) in str(raised.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a directory"):
        read_toml(tmp_path)
    with pytest.raises(ConfigError, match="does not exist; give the path of a .toml file"):
        read_toml(tmp_path / "none.toml")
    (tmp_path / "schema.toml").touch()
    with pytest.raises(ConfigError, match="shcema.toml: does not exist; did you mean 'schema.toml'?"):
        read_toml(tmp_path / "shcema.toml")
    with pytest.raises(ConfigError, match="aliccp: does not exist; did you mean 'ali-ccp'?"):
        require_file(tmp_path / "aliccp", ["ali-ccp"])


def test_overrides_replace_keys_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text('funnel = "click"\nfeatures = {user = "categorical"}\nname = "one"')
    assert Schema.from_toml(path, name="two").name == "two"
