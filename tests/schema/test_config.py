"""Faults of a file: all at once, where the user wrote them, each with its fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from funnelcast.errors import ConfigError
from funnelcast.schema.config import read_toml
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
        ({"kind": "numeric", "transfrm": "bins"}, "features.x.transfrm: is not a setting; did you mean 'transform'?"),
        ({"clumn": "y"}, "features.x.clumn: is not a setting; did you mean 'column'?"),
        ({"kind": "numeric", "transform": "bin"}, "features.x.transform: 'bin' is not one of standard, bins; "
                                                  "did you mean 'bins'?"),
        ({"kind": "sequence", "max_length": 0}, "features.x.max_length: 0 is not allowed: "
                                                "input should be greater than or equal to 1"),
    ],
)  # fmt: skip
def test_a_fault_stands_where_the_user_wrote_it(feature: Any, expected: str) -> None:
    assert faults(features={"x": feature}) == [expected]


def test_a_feature_named_like_a_kind_keeps_its_name_in_the_fault() -> None:
    [fault] = faults(features={"numeric": {"kind": "numeric", "bin": 3}})
    assert fault == "features.numeric.bin: is not a setting; did you mean 'bins'?"


def test_faults_in_lists_and_tables_of_other_kinds() -> None:
    [steps, *_] = faults(funnel={"steps": [{"name": "click", "aftr": "x"}]})
    assert steps == "funnel.steps.0.aftr: is not a setting; did you mean 'after'?"
    assert faults(spilt={}) == ["spilt: is not a setting; did you mean 'split'?"]
    assert faults(name="a b")[0].startswith("name: 'a b' is not allowed: string should match pattern")
    assert faults(funnel={"on_broken": "imply"}) == ["funnel.steps: is missing; add it"]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"seed": True}, "split.seed: True is not allowed: input should be a valid integer"),
        ({"seed": "3"}, "split.seed: '3' is not allowed: input should be a valid integer"),
        ({"seed": 1.0}, "split.seed: 1.0 is not allowed: input should be a valid integer"),
        ({"dev": False}, "split.dev: False is not allowed: input should be a valid number"),
        ({"dev": "0.1"}, "split.dev: '0.1' is not allowed: input should be a valid number"),
    ],
)
def test_a_number_is_neither_a_text_nor_a_flag(setting: dict[str, Any], expected: str) -> None:
    assert faults(split=setting) == [expected]


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
    with pytest.raises(ConfigError, match="does not exist"):
        read_toml(tmp_path / "none.toml")


def test_overrides_replace_keys_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text('funnel = "click"\nfeatures = {user = "categorical"}\nname = "one"')
    assert Schema.from_toml(path, name="two").name == "two"
