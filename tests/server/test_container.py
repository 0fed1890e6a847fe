"""What the image of deploy/Dockerfile runs, without an image."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.server.served import bundle, serving

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text()


@pytest.mark.slow
def test_its_command_serves_and_its_health_check_sees_it(tmp_path: Path) -> None:
    bundle().save(tmp_path / "bundle")
    serve, of_image, *options = _words("^CMD")
    assert (serve, of_image) == ("serve", "/models/bundle")
    with serving(tmp_path / "bundle", *["0" if option in ("8080", "8081") else option for option in options]) as server:
        port = server.url.rpartition(":")[2]
        assert _healthy(port)
        assert server.grpc
    assert not _healthy(port)


def test_its_extra_is_one_of_the_package() -> None:
    (extra,) = re.findall(r"'\.\[(.*)\]'", DOCKERFILE)
    assert extra in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def _healthy(port: str) -> bool:
    _, *check = [word.replace("8080", port) for word in _words(" CMD")]
    return subprocess.run([sys.executable, *check], capture_output=True, check=False).returncode == 0


def _words(instruction: str) -> list[str]:
    (found,) = re.findall(rf"{instruction} (\[.*\])", DOCKERFILE, re.MULTILINE)
    words: list[str] = json.loads(found)
    return words
