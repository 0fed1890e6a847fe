"""Buckets by whole numbers in Python, counts by loops, and that ids spread over the buckets."""

import itertools
import math

import pytest
import torch

from funnelcast.data.batch import Batch
from funnelcast.data.encoder import InputSpec, ListSpec
from funnelcast.errors import InputError
from funnelcast.layers.embedding import Block
from funnelcast.layers.hashing import HashedIds
from funnelcast.layers.lists import Pool
from tests.layers.inputs import INPUTS, draw_batch, lists_of, of_row, source

POOLS: dict[str, Pool] = {"tags": "weighted_mean", "seen": "sum", "history": "mean", "visited": "sum"}


def expected_bucket(number: int, salt: int, buckets: int) -> int:
    """In Python's unlimited whole numbers, cut to 64 bits as a tensor's are."""

    def cut(x: int) -> int:
        return (x + 2**63) % 2**64 - 2**63

    mixed = cut((number + (salt + 1) * 0x85EBCA77) * 0x9E3779B1)
    mixed = cut((mixed ^ (mixed >> 15)) * 0x9E3779B1)
    return (mixed % 2**32) * buckets // 2**32


@pytest.mark.parametrize("buckets", [1, 7, 1024, 65536])
def test_a_bucket_is_its_formula(buckets: int) -> None:
    hashed = HashedIds(INPUTS, buckets, POOLS)
    ids = torch.cat([torch.arange(40), torch.randint(2**31 - 1, (40,), generator=source(0)), torch.tensor([2**31 - 1])])
    for salt in (0, 1, 17):
        expected = [expected_bucket(number, salt, buckets) for number in ids.tolist()]
        assert hashed.bucket(ids.int(), salt).tolist() == expected
        assert hashed.bucket(ids.int(), torch.full_like(ids, salt)).tolist() == expected
        assert min(expected) >= 0 and max(expected) < buckets


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_is_counts_of_its_ids_then_its_numbers(dtype: torch.dtype) -> None:
    """Salts are the vocabularies' positions in the order of their first use: items, users, ages, shops, tags."""
    hashed, batch = HashedIds(INPUTS, 11, POOLS), draw_batch(20, dtype=dtype)
    found, salts = hashed(batch), {name: i for i, name in enumerate(["items", "users", "ages", "shops", "tags"])}
    assert found.flat.shape == (20, hashed.width) == (20, 13) and found.flat.dtype == dtype and found.sequences == ()
    for row in range(20):
        counts = [0.0] * 11
        for i, (_, vocabulary) in enumerate(INPUTS.fields):
            counts[expected_bucket(int(batch.ids[row, i]), salts[vocabulary], 11)] += 1
        for spec in INPUTS.lists:
            ids, weights = of_row(batch.lists[spec.name], row)
            size = {"sum": 1.0, "mean": len(ids), "weighted_mean": sum(map(abs, weights))}[POOLS[spec.name]]
            for number, weight in zip(ids, weights, strict=True):
                factor = (1.0 if POOLS[spec.name] == "mean" else weight) / size if size else 0.0
                counts[expected_bucket(number, salts[spec.vocabulary], 11)] += factor
        expected = torch.tensor([*counts, *batch.numeric[row].tolist()], dtype=dtype)
        torch.testing.assert_close(found.flat[row], expected, rtol=0, atol=1e-6)  # factors are made in float32


def test_counts_add_up_to_fields_and_factors() -> None:
    """Each row has five fields, each list that holds something adds 1 by its mean, or as many ids as it has."""
    hashed, batch = HashedIds(INPUTS, 1024, {**POOLS, "tags": "mean"}), draw_batch(50)
    held = {name: lists.offsets.diff() for name, lists in batch.lists.items()}
    expected = 5 + (held["tags"] > 0) * 1 + held["seen"] + (held["history"] > 0) * 1 + held["visited"]
    torch.testing.assert_close(hashed(batch).flat[:, :1024].sum(1), expected.double(), rtol=0, atol=1e-6)


def test_features_of_one_vocabulary_hash_alike_and_vocabularies_apart() -> None:
    inputs = InputSpec((("item", "items"), ("last", "items"), ("user", "users")), {"items": 300, "users": 300}, (),
                       (ListSpec("history", "items", "sequence", max_length=1),))  # fmt: skip
    hashed, ids = HashedIds(inputs, 4096, {"history": "sum"}), torch.arange(300, dtype=torch.int32)
    lists = {"history": lists_of(ids[:, None].tolist())}
    found = hashed(Batch(torch.stack([ids, ids, ids], 1), torch.zeros(300, 0), lists=lists)).flat
    items, users, expected = hashed.bucket(ids, 0), hashed.bucket(ids, 1), torch.zeros(300, 4096)
    expected[ids.long(), items] += 3
    expected[ids.long(), users] += 1
    assert torch.equal(found, expected)
    assert (items == users).sum() <= 3 and min(len(items.unique()), len(users.unique())) > 280


STRIDES = {"neighbours": 1, "even": 2, "every 64th": 64, "every 1,000th": 1000, "every 65,536th": 65536}


@pytest.mark.parametrize("stride", STRIDES.values(), ids=STRIDES.keys())
@pytest.mark.parametrize("buckets", [10, 1024, 5000])
def test_ids_spread_over_the_buckets(buckets: int, stride: int) -> None:
    """χ² of counts that are drawn has mean n - 1 and variance 2 (n - 1); a good hash may be more even than that."""
    hashed, per_bucket = HashedIds(INPUTS, buckets, POOLS), 6
    ids = torch.arange(buckets * per_bucket) * stride
    for salt in (0, 1, 5):
        counts = hashed.bucket(ids, salt).bincount(minlength=buckets)
        assert len(counts) == buckets
        square = ((counts - per_bucket).double().square() / per_bucket).sum().item()
        assert square < buckets - 1 + 5 * math.sqrt(2 * (buckets - 1))


def test_vocabularies_meet_no_more_than_by_chance() -> None:
    """Nor is one's order another's, shifted by a few ids."""
    hashed, ids = HashedIds(INPUTS, 1024, POOLS), torch.arange(20_000)
    placed = [hashed.bucket(ids, salt) for salt in range(6)]
    for a, b, shift in itertools.product(range(6), range(6), range(10)):
        if a != b:
            shared = (placed[a][shift:] == placed[b][: 20_000 - shift]).sum().item()
            assert abs(shared - 20_000 / 1024) < 6 * math.sqrt(20_000 / 1024)


def test_nothing_is_learned_and_nothing_saved() -> None:
    hashed = HashedIds(INPUTS, 8, POOLS)
    hashed.reset("normal", source(0))
    assert not list(hashed.parameters()) and not hashed.state_dict() and hashed.all_tables() == []
    assert hashed.layout == [Block("hashed ids", 0, 8, 1), Block("price", 8, 1, 1), Block("stock", 9, 1, 1)]
    assert hashed.width == 10
    with pytest.raises(InputError, match="items.*leave one out"):
        hashed.take_over("items", torch.tensor([0]), torch.zeros(1, 2))


def test_no_fields_no_lists_no_rows() -> None:
    numbers = HashedIds(InputSpec((), {}, ("price",)), 4, {})
    batch = Batch(torch.empty(3, 0, dtype=torch.int32), torch.ones(3, 1))
    assert numbers(batch).flat.tolist() == [[0, 0, 0, 0, 1]] * 3
    assert HashedIds(INPUTS, 8, POOLS)(draw_batch(0)).flat.shape == (0, 10)
    empty = HashedIds(InputSpec((), {"a": 3}, (), (ListSpec("a", "a", "multi"),)), 4, {"a": "mean"})
    none = Batch(torch.empty(2, 0, dtype=torch.int32), torch.zeros(2, 0), lists={"a": lists_of([[], []])})
    assert not empty(none).flat.any()
