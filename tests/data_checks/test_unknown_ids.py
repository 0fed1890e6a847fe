"""Unknown ids: what a training column says of their share elsewhere, against drawing it."""

from __future__ import annotations

import numpy as np
import pytest

from funnelcast.data.columns import Ragged
from funnelcast.data_checks import unknown_ids
from funnelcast.data_checks.unknown_ids import expected_unknown, unknown_in_lists, unknown_share


def encoded(ids: np.ndarray, train: np.ndarray, min_count: int) -> np.ndarray:
    """With ids that occur too rarely in `train` as 0."""
    return np.where(np.bincount(train, minlength=ids.max() + 1)[ids] >= min_count, 1 + ids, 0).astype(np.int32)


@pytest.mark.parametrize("min_count", [1, 3])
@pytest.mark.parametrize("run", [1, 20])
def test_the_expected_share_is_that_of_a_random_split(run: int, min_count: int) -> None:
    """Of rows, and of users with runs of rows; train's own share is far from it."""
    rng = np.random.default_rng(0)
    ids = np.repeat(rng.zipf(1.3, 40_000 // run) % 9000, run)
    in_train = np.repeat(rng.random(40_000 // run) < 0.7, run)
    train, test = ids[in_train], ids[~in_train]
    found = expected_unknown(encoded(train, train, min_count), min_count)
    there = unknown_share(encoded(test, train, min_count))
    assert abs(there - found.elsewhere) < 3 * (found.error(len(test)) + found.error(len(train)))
    assert there - found.train > 4 * found.error(len(test)) or (run > 1 and min_count > 1)
    assert found.run == pytest.approx(run, rel=0.3)


def test_chunks_of_a_column_count_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.random.default_rng(0).integers(0, 300, 5000).astype(np.int32)
    whole = expected_unknown(ids, 2)
    monkeypatch.setattr(unknown_ids, "CHUNK", 700)
    assert expected_unknown(ids, 2).elsewhere == whole.elsewhere and unknown_share(ids) == whole.train
    lists = Ragged(np.array([0, 600, 600, 1500, 2000]), ids[:2000])
    shared = Ragged(lists.offsets, lists.ids, index=np.array([3, 0, 0, 1], np.int32))
    assert unknown_in_lists(lists) == (ids[:2000] == 0).mean()
    assert unknown_in_lists(shared) == (np.concatenate([ids[1500:2000], ids[:600], ids[:600]]) == 0).mean()


def test_nothing_known_and_nothing_there() -> None:
    found = expected_unknown(np.zeros(10, np.int32), 1)
    assert (found.train, found.elsewhere) == (1, 1) and found.error(5) > 0
    assert np.isnan(unknown_in_lists(Ragged(np.zeros(3, np.int64), np.zeros(0, np.int32))))
