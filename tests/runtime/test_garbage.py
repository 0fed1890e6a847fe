"""Within the block the collector is off, and afterwards as it was before."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from funnelcast.runtime.garbage import paused_gc


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


@pytest.mark.parametrize("is_on", [True, False])
def test_the_collector_is_off_within_the_block_and_then_as_before(is_on: bool) -> None:
    if not is_on:
        gc.disable()
    with pytest.raises(ValueError, match="x"), paused_gc():
        with paused_gc():
            assert not gc.isenabled()
        assert not gc.isenabled()
        raise ValueError("x")
    assert gc.isenabled() == is_on and gc.get_freeze_count() == 0


class Made:
    """An object in a cycle, which the collector alone frees."""

    def __init__(self) -> None:
        self.itself = self


def test_what_was_made_is_among_the_oldest_and_can_still_be_garbage() -> None:
    with paused_gc():
        made = Made()
    assert any(each is made for each in gc.get_objects(generation=2))
    alive = weakref.ref(made)
    del made
    gc.collect()
    assert alive() is None


def test_what_somebody_froze_stays_frozen() -> None:
    """The collector does not go through frozen objects."""
    made = Made()
    gc.freeze()
    with paused_gc():
        pass
    assert gc.get_freeze_count() > 0 and not any(each is made for each in gc.get_objects())
