"""All tests multiply on one thread, as their layers are so narrow that a second one only waits for its turn; LightGBM's
threads yield their core while they wait; and files are not forced to the disk, which is for a loss of power alone."""

import os
from collections.abc import Iterator

os.environ.setdefault("GOMP_SPINCOUNT", "0")  # read when the library is loaded

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _without_forcing_files_to_the_disk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests first: the last ones to end are then short, and no worker waits for another's."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
