from __future__ import annotations

import numpy as np
import pytest
import torch

from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns
from funnelcast.data.dropped_ids import DroppedIds
from funnelcast.data.loader import Loader, generator_of

ROWS = 6000
IDS = np.stack([np.arange(ROWS) % 3 + 1, np.minimum(np.arange(ROWS) // 10, 100)], 1).astype(np.int32)
COLUMNS = Columns(ids=IDS, numeric=np.zeros((ROWS, 0), np.float32), labels=np.zeros((ROWS, 1), np.uint8))


def test_an_id_is_dropped_by_how_many_rows_hold_it() -> None:
    dropped, batch = DroppedIds.of(Batch.of(COLUMNS), None, 10.0), Batch.of(COLUMNS)
    shares = np.mean([(dropped(batch, generator_of(i)).ids == 0).numpy() for i in range(40)], 0)
    assert shares[:, 0].mean() == pytest.approx(10 / (10 + ROWS / 3), rel=0.1)
    rare = (IDS[:, 1] > 0) & (IDS[:, 1] < 100)
    assert shares[rare, 1].mean() == pytest.approx(10 / (10 + 10), rel=0.02)
    assert shares[IDS[:, 1] == 100, 1].mean() == pytest.approx(10 / (10 + 5000), rel=0.1)


def test_only_rows_that_are_trained_on_count() -> None:
    chosen = torch.nonzero(torch.from_numpy(IDS[:, 1]) == 7).squeeze(1)
    dropped = DroppedIds.of(Batch.of(COLUMNS), chosen, 10.0)
    start = int(dropped.starts[1])
    assert dropped.probabilities[start + 7] == pytest.approx(10 / 20)
    assert dropped.probabilities[start + 6] == 1


def test_ids_change_and_nothing_else_does() -> None:
    batch = Batch.of(COLUMNS)
    found = DroppedIds.of(batch, None, 1000.0)(batch, generator_of(0))
    assert found.labels is batch.labels
    assert found.ids.dtype == torch.int32
    assert bool(((found.ids == batch.ids) | (found.ids == 0)).all())
    assert 0 < int((found.ids != batch.ids).sum()) < found.ids.numel()


def test_a_batch_is_the_same_wherever_an_epoch_begins_and_another_in_the_next() -> None:
    loader = Loader.of(COLUMNS, 1000, seed=3, unknown_ids=100.0)
    whole, rest = list(loader.epoch(1)), list(loader.epoch(1, start=4))
    assert all(torch.equal(a.ids, b.ids) for a, b in zip(whole[4:], rest, strict=True))
    plain = [batch.ids for batch in Loader.of(COLUMNS, 1000, seed=3).epoch(1)]
    assert all(bool(((a.ids == b) | (a.ids == 0)).all()) for a, b in zip(whole, plain, strict=True))
    assert not torch.equal(whole[0].ids, next(iter(loader.epoch(2))).ids)
