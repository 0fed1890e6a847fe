"""While what stays is made nothing looks for garbage, and afterwards all is as it was."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from funnelcast.runtime.garbage import no_search


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


@pytest.mark.parametrize("is_on", [True, False])
def test_it_is_off_meanwhile_and_then_as_before(is_on: bool) -> None:
    if not is_on:
        gc.disable()
    with pytest.raises(ValueError, match="x"), no_search():
        with no_search():
            assert not gc.isenabled()
        assert not gc.isenabled()
        raise ValueError("x")
    assert gc.isenabled() == is_on and gc.get_freeze_count() == 0


class Made:
    """Of a cycle, which only a search finds."""

    def __init__(self) -> None:
        self.itself = self


def test_what_was_made_is_among_the_oldest_and_can_still_be_garbage() -> None:
    with no_search():
        made = Made()
    assert any(each is made for each in gc.get_objects(generation=2))
    alive = weakref.ref(made)
    del made
    gc.collect()
    assert alive() is None


def test_what_somebody_froze_stays_frozen() -> None:
    """Frozen objects are not among those that a search goes through."""
    made = Made()
    gc.freeze()
    with no_search():
        pass
    assert gc.get_freeze_count() > 0 and not any(each is made for each in gc.get_objects())
