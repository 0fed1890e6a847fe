"""Slots: every value is found at its place, whatever bits values share, and no other one is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funnelcast.data.slots import look_up, slots_of

INTEGERS = st.integers(-(2**63), 2**63 - 1)


def indices(values: list[int], numbers: list[int]) -> list[int]:
    known, found = np.array(values, np.int64), np.empty(len(numbers), np.int32)
    look_up(np.array(numbers, np.int64), slots_of(known), known, found)
    return [int(place) for place in found]


@settings(deadline=None)  # the first call compiles
@given(st.lists(INTEGERS, unique=True), st.lists(INTEGERS))
def test_indices_are_those_of_a_search_one_by_one(values: list[int], others: list[int]) -> None:
    expected = [values.index(number) + 1 if number in values else 0 for number in values + others]
    assert indices(values, values + others) == expected


@pytest.mark.parametrize("shift", [0, 8, 20, 32, 40, 48])
def test_values_that_share_their_low_bits_do_not_crowd(shift: int) -> None:
    """Ids may be multiples of a power of two, such as those that hold the time in front."""
    values = np.arange(1, 5001, dtype=np.int64) << shift
    slots = slots_of(values)
    filled = np.flatnonzero(slots)
    longest = max(len(run) for run in np.split(filled, np.flatnonzero(np.diff(filled) > 1) + 1))
    assert longest < 100
    assert len(values) < len(slots) <= 4 * len(values)
