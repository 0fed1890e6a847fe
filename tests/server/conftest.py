from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.served import Server, bundle, serving


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("served") / "bundle"
    bundle().save(made)
    return made


@pytest.fixture(scope="package")
def server(folder: Path) -> Iterator[Server]:
    with serving(folder) as running:
        yield running
