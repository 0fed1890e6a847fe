"""The page of the doctor: its log, its commands, and what it shows of them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from harness.calls import call

GUIDE = (Path(__file__).parents[2] / "docs/how-to/find-leaks.md").read_text()


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, flags=re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_guide_shows_what_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the fingerprint, which new versions of what reads Parquet may change."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    exec(compile(block("python"), "find-leaks.md", "exec"), {})
    Path("schema.toml").write_text(block("toml"))
    answers = [call(*shlex.split(command)[1:]) for command in block("bash").splitlines()]
    assert [answer.code for answer in answers] == [0, 1], answers
    said, shown = (re.sub(r"\([0-9a-f]{12}\)", "", text) for text in (answers[1].out, block("text")))
    assert said == shown
