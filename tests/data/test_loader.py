"""Batches: every row once an epoch, in an order that the seed, the epoch and nothing else decides."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from funnelcast.data import loader as module
from funnelcast.data.batch import Batch
from funnelcast.data.columns import UNOBSERVED, Columns, Ragged
from funnelcast.data.loader import Loader, generator_of, seed_of
from tests import tiny


def columns_of(rows: int, rate: float = 0.5) -> Columns:
    """Row i has id i, number -i, weight i and labels by chance."""
    rng = np.random.default_rng(0)
    i = np.arange(rows)
    click = (rng.random(rows) < rate).astype(np.uint8)
    click[rng.random(rows) < 0.05] = UNOBSERVED
    labels = np.stack([click, np.zeros(rows, np.uint8)], 1)
    return Columns(i[:, None].astype(np.int32), -i[:, None].astype(np.float32), {}, labels, i.astype(np.float32))


def lists_of(rows: int) -> tuple[Columns, list[dict[str, list[int]]]]:
    """The same rows with lists, and the lists of each: own ones of up to 4 ids, and one of five that rows share."""
    lengths, few = np.arange(rows) % 5, [[7], [], [8, 8, 9], [0], [1, 2]]
    own = np.arange(lengths.sum(), dtype=np.int32)
    offsets = np.concatenate([[0], lengths.cumsum()])
    index = (np.arange(rows) * 3 % 5).astype(np.int32)
    shared = np.concatenate(few).astype(np.int32)
    ragged = {
        "own": Ragged(offsets, own, (own / 2).astype(np.float32)),
        "shared": Ragged(np.cumsum([0, *map(len, few)]), shared, (shared / 2).astype(np.float32), index),
    }
    expected = [{"own": list(range(*offsets[i : i + 2])), "shared": few[index[i]]} for i in range(rows)]
    return replace(columns_of(rows), ragged=ragged), expected


@pytest.mark.parametrize("keep", [1.0, 0.4])
def test_a_batch_has_the_lists_of_its_rows(keep: float) -> None:
    columns, expected = lists_of(100)
    loader = Loader.of(columns, 16, seed=1, keep_negatives=keep)
    for batch in loader.epoch(0):
        rows = batch.ids[:, 0].tolist()
        assert batch.lists.keys() == columns.ragged.keys()
        for name, lists in batch.lists.items():
            assert lists.index is None and lists.weights is not None and len(lists) == len(batch)
            assert torch.equal(lists.weights * 2, lists.ids.float())
            found = [lists.ids[a:b].tolist() for a, b in zip(lists.offsets, lists.offsets[1:], strict=False)]
            assert found == [expected[row][name] for row in rows]
        taken = Batch.of(columns.take(np.array(rows)))
        for name, lists in batch.lists.items():
            assert torch.equal(lists.ids, taken.lists[name].ids)
            assert torch.equal(lists.offsets, taken.lists[name].offsets)


def ids(batches: list[Batch]) -> list[int]:
    return [int(i) for batch in batches for i in batch.ids[:, 0]]


@pytest.mark.parametrize(("rows", "batch_size"), [(1, 4), (4, 4), (10, 4), (100, 7), (100, 1000)])
def test_every_row_once_an_epoch_with_all_that_belongs_to_it(rows: int, batch_size: int) -> None:
    columns = columns_of(rows)
    loader = Loader.of(columns, batch_size, seed=3)
    batches = list(loader.epoch(0))
    assert sorted(ids(batches)) == list(range(rows))
    assert len(batches) == len(loader) == -(-rows // batch_size)
    assert {len(batch) for batch in batches[:-1]} <= {batch_size}
    assert columns.labels is not None
    for batch in batches:
        assert batch.labels is not None and batch.weight is not None
        assert torch.equal(batch.numeric[:, 0], -batch.ids[:, 0].float())
        assert torch.equal(batch.weight, batch.ids[:, 0].float())
        assert np.array_equal(batch.labels.numpy(), columns.labels[batch.ids[:, 0].numpy()])


def test_seed_and_epoch_decide_the_order() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        torch.manual_seed(seed + 17)
        return ids(list(Loader.of(columns_of(200), 32, seed).epoch(epoch)))

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
    assert order(0, 0) != sorted(order(0, 0))


@pytest.mark.parametrize("keep", [1.0, 0.4])
def test_going_on_from_a_batch_is_as_if_nothing_had_happened(keep: float) -> None:
    loader = Loader.of(columns_of(100), 16, seed=1, keep_negatives=keep)
    whole = list(loader.epoch(2))
    for start in range(len(whole) + 1):
        assert ids(list(loader.epoch(2, start))) == ids(whole[start:])


@pytest.mark.parametrize("rows", [256, 1000, 1037])
def test_a_window_smaller_than_the_data(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row once all the same, from windows of blocks from everywhere, in another order in each epoch."""
    monkeypatch.setattr(module, "WINDOW_BLOCK", 16)
    loader = Loader.of(columns_of(rows), 10, seed=1, window=64)
    first, second = (np.array(ids(list(loader.epoch(epoch)))) for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(rows))
    assert not np.array_equal(first, second)
    window = first[:64]
    assert np.unique(window // 16).size <= 5  # four blocks, or five where the short last one is among them
    assert np.ptp(window) > rows / 4
    assert not np.array_equal(window // 16, np.sort(window // 16))


def test_all_positives_and_the_share_of_negatives_are_kept() -> None:
    columns = columns_of(20000, rate=0.1)
    assert columns.labels is not None
    click = columns.labels[:, 0]
    loader = Loader.of(columns, 500, seed=0, keep_negatives=0.3)
    kept = np.array(ids(list(loader.epoch(0))))
    assert len(kept) == len(set(kept)) == loader.num_rows
    assert set(np.flatnonzero(click != 0)) <= set(kept)
    negatives = int((click == 0).sum())
    share = (click[kept] == 0).sum() / negatives
    assert abs(share - 0.3) < 4 * (0.3 * 0.7 / negatives) ** 0.5
    assert sorted(ids(list(loader.epoch(1)))) == sorted(kept)  # the same sample in every epoch
    other = ids(list(Loader.of(columns, 500, seed=1, keep_negatives=0.3).epoch(0)))
    assert set(other) != set(kept)


def test_the_order_does_not_depend_on_the_size_of_a_batch() -> None:
    small, large = (ids(list(Loader.of(columns_of(90), size, 0).epoch(0))) for size in (8, 64))
    assert small == large


def test_the_rows_of_a_table_stay_in_its_file(tmp_path: Path) -> None:
    part = tiny.write_table(tmp_path / "table").part("train")
    loader = Loader.of(part, 16, 0)
    assert loader.rows.ids.data_ptr() == part.ids.ctypes.data
    assert sum(len(batch) for batch in loader.epoch(0)) == len(part)


def test_seeds_of_different_purposes_differ() -> None:
    parts: list[tuple[int | str, ...]] = [(0,), (1,), (0, 1), (0, "a"), ("a", 0), (0, "a", 0), ("0", "a")]
    seeds = [seed_of(*each) for each in parts]
    assert len(set(seeds)) == len(parts)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of(3, "order", 7) == seed_of(3, "order", 7) == 8167213760485413463
    assert torch.rand(1, generator=generator_of(1)) == torch.rand(1, generator=generator_of(1))


@pytest.mark.parametrize(("rows", "window"), [(50, 64), (64, 64), (500, 64), (333, 50)])
def test_the_order_is_that_of_one_long_permutation(rows: int, window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made at once here, window by window there."""
    monkeypatch.setattr(module, "WINDOW_BLOCK", 16)
    generator = generator_of(3, "order", 7)
    if rows <= window:
        expected = torch.randperm(rows, generator=generator)
    else:
        blocks = torch.arange(rows).split(16)
        mixed = torch.cat([blocks[i] for i in torch.randperm(len(blocks), generator=generator).tolist()])
        expected = torch.cat([w[torch.randperm(len(w), generator=generator)] for w in mixed.split(window)])
    loader = Loader.of(columns_of(rows), 9, seed=3, window=window)
    assert ids(list(loader.epoch(7))) == expected.tolist()
    assert ids(list(loader.epoch(7, start=2))) == expected[18:].tolist()
