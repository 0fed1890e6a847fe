"""All tests multiply on one thread, as their layers are so narrow that a second one only waits for its turn; LightGBM's
threads yield their core while they wait; and files are not forced to the disk, which is for a loss of power alone. What
is made while tests are collected is no garbage, and is not looked through."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "0")  # read when the library is loaded

import pytest
import torch

torch.set_num_threads(1)
gc.disable()
HERE = Path(__file__).parent


@pytest.fixture(autouse=True, scope="session")
def _without_forcing_files_to_the_disk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.unfreeze()  # among the oldest objects
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests first, those of whole commands and proofs at the top of the tree, then other slow ones: the
    last ones to end are then short. An idle worker takes over tests from the end of another's (`--dist worksteal`): by
    xdist's default the first worker would get an eighth of all tests, and that is all the slow ones."""
    items.sort(key=lambda item: (item.get_closest_marker("slow") is None, item.path.parent != HERE))
