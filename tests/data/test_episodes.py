"""Tasks: whose rows they have, how support and query share them, and that a step depends on its number alone."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from funnelcast.data.batch import Batch
from funnelcast.data.columns import UNOBSERVED, Columns, Ragged
from funnelcast.data.episodes import Halves, Keyed, TaskBatch
from funnelcast.data.loader import Loader
from funnelcast.errors import DataError

CPU = torch.device("cpu")


def columns_of(rows: int, rates: tuple[float, float] = (0.5, 0.4)) -> Columns:
    """Row i has id i, number -i, weight i, labels by chance, and the lists [i] * (i % 3) and [0] or [1, 1]."""
    rng = np.random.default_rng(0)
    i = np.arange(rows)
    click = rng.random(rows) < rates[0]
    labels = np.stack([click, click & (rng.random(rows) < rates[1])], 1).astype(np.uint8)
    labels[rng.random(rows) < 0.05, 1] = UNOBSERVED
    own = Ragged(np.append(0, np.cumsum(i % 3)), np.repeat(i, i % 3).astype(np.int32))
    shared = Ragged(np.array([0, 1, 3]), np.array([0, 1, 1], np.int32), None, (i % 2).astype(np.int32))
    ids, numeric = i[:, None].astype(np.int32), -i[:, None].astype(np.float32)
    return Columns(ids, numeric, {"own": own, "shared": shared}, labels, i.astype(np.float32))


def ids(batch: Batch) -> list[int]:
    return [int(i) for i in batch.ids[:, 0]]


def halves_of(step: TaskBatch) -> list[tuple[list[int], list[int]]]:
    """The ids of each task's support and query."""
    return [(ids(support), ids(query)) for support, query in step.tasks()]


KEYS = np.array(["a"] * 40 + ["b"] * 25 + ["c"] * 30 + ["d"] * 3 + ["e"] * 22)[
    np.random.default_rng(5).permutation(120)
]
KNOWN = np.arange(120) % 7 != 0


def keyed(columns: Columns | None = None, keys: NDArray[Any] = KEYS, **settings: Any) -> Keyed:
    columns = columns_of(len(keys)) if columns is None else columns
    known = KNOWN if len(keys) == 120 else np.ones(len(keys), np.bool_)
    return Keyed.of(columns, keys, known, **{"batch_size": 24, "tasks": 3, "seed": 0, "min_rows": 5} | settings)


def test_the_halves_of_a_step_are_its_rows_in_order_and_share_its_memory() -> None:
    columns = columns_of(10)
    step = TaskBatch(Batch.of(columns).take(torch.arange(9)), ((1, 2), (4, 2)))
    assert step.rows == 9 and step.to(CPU).sizes == step.sizes
    assert halves_of(step) == halves_of(step.to(CPU)) == [([0], [1, 2]), ([3, 4, 5, 6], [7, 8])]
    (_, query), (support, _) = step.tasks()
    assert query.ids.data_ptr() == step.batch.ids[1:].data_ptr()
    assert support.lists["own"].ids.tolist() == [4, 5, 5] and support.lists["own"].offsets.tolist() == [0, 0, 1, 3, 3]


@pytest.mark.parametrize(
    ("rows", "batch_size", "tasks", "last"),
    [
        (32, 16, 2, ((4, 4), (4, 4))),
        (30, 16, 2, ((3, 4), (3, 4))),
        (28, 12, 3, ((1, 1), (1, 1))),  # four rows: two tasks
        (27, 12, 3, ((1, 2),)),
        (26, 12, 3, ((1, 1),)),
        (25, 12, 3, ((2, 2), (2, 2), (2, 2))),  # the last row is left out
        (7, 100, 2, ((1, 2), (2, 2))),
        (20, 20, 3, ((3, 3), (3, 4), (3, 4))),
    ],
)
def test_halves_cut_the_loaders_batches(
    rows: int, batch_size: int, tasks: int, last: tuple[tuple[int, int], ...]
) -> None:
    loader = Loader.of(columns_of(rows), batch_size, seed=2)
    halves = Halves(loader, tasks)
    steps, batches = list(halves.epoch(1)), list(loader.epoch(1))
    assert len(steps) == len(halves) and steps[-1].sizes == last
    assert all(len(step.sizes) == tasks for step in steps[:-1])
    found = [[i for support, query in halves_of(step) for i in support + query] for step in steps]
    assert found == [ids(batch) for batch in batches if len(batch) > 1]
    drawn = sorted(i for step in found for i in step)
    assert len(drawn) == len(set(drawn)) == halves.num_rows == rows - (rows == 25)
    assert halves.batch_size == batch_size
    for start in range(len(halves) + 1):
        assert [halves_of(step) for step in halves.epoch(1, start)] == [halves_of(step) for step in steps[start:]]


def test_a_single_row_is_no_halves() -> None:
    halves = Halves(Loader.of(columns_of(1), 8, seed=0), 2)
    assert (len(halves), halves.num_rows, list(halves.epoch(0))) == (0, 0, [])


@pytest.mark.slow
@pytest.mark.parametrize("stratified", [True, False])
@pytest.mark.parametrize("sampling", ["proportional", "uniform"])
def test_a_task_has_rows_of_one_known_large_key(sampling: str, stratified: bool) -> None:
    usable = {key: set(np.flatnonzero((key == KEYS) & KNOWN)) for key in "abce"}
    episodes = keyed(sampling=sampling, stratified=stratified)
    assert (episodes.num_rows, len(episodes)) == (sum(map(len, usable.values())), 4)
    seen = set[int]()
    for step in (step for epoch in range(60) for step in episodes.epoch(epoch)):
        found = halves_of(step)
        keys = [str(KEYS[support[0]]) for support, _ in found]
        assert len(set(keys)) == 3 and [(len(s), len(q)) for s, q in found] == list(step.sizes) == [(4, 4)] * 3
        for key, (support, query) in zip(keys, found, strict=True):
            assert len({*support, *query}) == 8 and {*support, *query} <= usable[key]
        seen |= {i for support, query in found for i in support + query}
    assert seen == set.union(*usable.values())  # every row comes, sooner or later


def test_a_small_key_gives_all_its_rows_and_each_set_gets_one() -> None:
    keys = np.repeat([7, 3, 5], [2, 3, 50])
    for share, sizes in ((0.01, {7: (1, 1), 3: (1, 2), 5: (1, 9)}), (0.99, {7: (1, 1), 3: (2, 1), 5: (9, 1)})):
        episodes = keyed(keys=keys, batch_size=30, min_rows=2, support_share=share)
        assert len(episodes) == 1
        (step,) = episodes.epoch(0)
        assert {int(keys[s[0]]): (len(s), len(q)) for s, q in halves_of(step)} == sizes


def test_an_epoch_of_fewer_rows_than_a_batch_is_one_step() -> None:
    episodes = keyed(keys=np.repeat([0, 1], 10), batch_size=100, tasks=2)
    assert (len(episodes), episodes.num_rows, [step.rows for step in episodes.epoch(0)]) == (1, 20, [20])


@pytest.mark.slow
@pytest.mark.parametrize("sampling", ["proportional", "uniform"])
@pytest.mark.parametrize("tasks", [1, 2])
def test_keys_come_as_often_as_their_chances_say(sampling: str, tasks: int) -> None:
    """Two of five keys: p_k as the first, or p_j * p_k / (1 - p_j) as the second after another one."""
    rows = np.array([2, 60, 10, 5, 23])
    p = rows / rows.sum() if sampling == "proportional" else np.full(5, 0.2)
    pairs = np.outer(p, p) / (1 - p)[:, None]
    np.fill_diagonal(pairs, 0)
    expected = p if tasks == 1 else p + pairs.sum(0)
    keys, draws = np.random.default_rng(3).permutation(np.repeat(np.arange(5), rows)), 2000
    episodes = keyed(keys=keys, batch_size=100, tasks=tasks, min_rows=2, sampling=sampling)
    found = np.zeros(5)
    for epoch in range(draws):
        for step in episodes.epoch(epoch):
            found[[keys[ids(support)[0]] for support, _ in step.tasks()]] += 1
    assert found.sum() == tasks * draws
    assert (abs(found / draws - expected) < 4 * (expected * (1 - expected) / draws) ** 0.5).all()


def test_a_key_with_nearly_all_rows_holds_nothing_up() -> None:
    keys = np.zeros(200_000, np.int32)
    keys[[1, 100_000]] = 1
    columns = Columns(np.arange(200_000, dtype=np.int32)[:, None], np.zeros((200_000, 0), np.float32))
    episodes = keyed(columns, keys, batch_size=1000, tasks=2, min_rows=2, stratified=False)
    for step in episodes.epoch(0):
        assert sorted(sum(sizes) for sizes in step.sizes) == [2, 500]


def within_a_row(number: int, share: float) -> bool:
    return abs(number - share) < 1 + 1e-9


@pytest.mark.parametrize("share", [0.25, 0.5, 0.7])
def test_stratified_halves_share_the_rows_of_each_depth(share: float) -> None:
    columns = columns_of(120, rates=(0.3, 0.4))
    assert columns.labels is not None
    depth, uneven, first_support = (columns.labels == 1).sum(1), 0, np.zeros(3)
    for stratified in (True, False):
        episodes = keyed(columns, batch_size=60, support_share=share, stratified=stratified)
        for step in (step for epoch in range(100) for step in episodes.epoch(epoch)):
            for support, query in halves_of(step):
                size = len(support) + len(query)
                assert len(support) == round(share * size)
                strata = np.bincount(depth[support], minlength=3), np.bincount(depth[query], minlength=3)
                even = [within_a_row(int(s), (s + q) * len(support) / size) for s, q in zip(*strata, strict=True)]
                assert all(even) or not stratified
                uneven += not all(even)
                first_support += strata[0] if stratified else 0
    assert uneven > 20  # halves by chance are not like that
    rows_of_depth = np.bincount(depth[KNOWN & (KEYS != "d")])
    shares = first_support / first_support.sum() / rows_of_depth * rows_of_depth.sum()
    assert abs(shares - 1).max() < 0.2  # neither depth is kept from the support


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.25, 0.5])
def test_each_row_is_in_the_support_as_often_as_any_other(share: float) -> None:
    """Also the rows of a lone positive: one key of 8 rows, of depths 0 0 0 0 0 1 1 2."""
    columns = columns_of(8)
    assert columns.labels is not None
    columns.labels[:] = [[0, 0]] * 5 + [[1, 0], [1, UNOBSERVED], [1, 1]]
    episodes = keyed(columns, np.zeros(8, np.int64), batch_size=8, tasks=1, support_share=share)
    found = np.zeros(8)
    for epoch in range(2000):
        for step in episodes.epoch(epoch):
            ((support, _),) = halves_of(step)
            found[support] += 1
    assert (abs(found / 2000 - share) < 4.5 * (share * (1 - share) / 2000) ** 0.5).all()


def test_a_support_without_a_positive_is_legal() -> None:
    columns = columns_of(40)
    assert columns.labels is not None
    columns.labels[:] = 0
    columns.labels[::20, 0] = 1  # one row of each of two keys
    positives = [
        int(support.labels.sum())
        for epoch in range(30)
        for step in keyed(columns, np.repeat([0, 1], 20), batch_size=40, tasks=2).epoch(epoch)
        for support, _ in step.tasks()
        if support.labels is not None
    ]
    assert set(positives) == {0, 1}


def test_going_on_from_a_step_is_as_if_nothing_had_happened() -> None:
    episodes = keyed(batch_size=12)
    whole = [halves_of(step) for step in episodes.epoch(2)]
    assert len(whole) == len(episodes) == 8
    for start in (3, 0, 8):
        assert [halves_of(step) for step in keyed(batch_size=12).epoch(2, start)] == whole[start:]


def test_seed_epoch_and_step_decide_the_rows() -> None:
    steps = [str(halves_of(step)) for seed in (0, 1) for epoch in (0, 1) for step in keyed(seed=seed).epoch(epoch)]
    torch.manual_seed(1)
    second = [str(halves_of(step)) for seed in (0, 1) for epoch in (0, 1) for step in keyed(seed=seed).epoch(epoch)]
    assert steps == second and len(set(steps)) == len(steps) == 16


@pytest.mark.parametrize("keep", [1.0, 0.4])
def test_the_rows_are_those_of_a_loader(keep: float) -> None:
    keys = np.arange(2000) % 4
    columns = columns_of(2000, rates=(0.2, 0.4))
    chosen = Loader.of(columns, 24, seed=3, keep_negatives=keep).chosen
    kept = set(range(2000)) if chosen is None else set(chosen.tolist())
    episodes = keyed(columns, keys, batch_size=2000, tasks=4, seed=3, keep_negatives=keep)
    assert episodes.num_rows == len(kept)
    (step,) = episodes.epoch(0)
    assert set(ids(step.batch)) == kept  # every task has all the rows of its key


def mapped(array: NDArray[Any], file: Path) -> NDArray[Any]:
    array.tofile(file)
    return np.memmap(file, array.dtype, "c", shape=array.shape)


def test_all_that_belongs_to_a_row_follows_it(tmp_path: Path) -> None:
    """Also its lists, and out of memory-mapped columns, which stay in their file."""
    columns = columns_of(120)
    assert columns.labels is not None and columns.weight is not None
    own = columns.ragged["own"]
    columns = Columns(
        mapped(columns.ids, tmp_path / "ids"),
        mapped(columns.numeric, tmp_path / "numeric"),
        columns.ragged | {"own": Ragged(mapped(own.offsets, tmp_path / "offsets"), mapped(own.ids, tmp_path / "own"))},
        mapped(columns.labels, tmp_path / "labels"),
        mapped(columns.weight, tmp_path / "weight"),
    )
    episodes = keyed(columns)
    assert episodes.rows.ids.data_ptr() == columns.ids.ctypes.data
    for support, query in (task for step in episodes.epoch(0) for task in step.tasks()):
        for half in (support, query):
            rows = half.ids[:, 0].numpy()
            expected = Batch.of(columns_of(120).take(rows))
            assert half.labels is not None and half.weight is not None
            assert expected.labels is not None and torch.equal(half.labels, expected.labels)
            assert torch.equal(half.numeric[:, 0], -half.weight) and half.weight.tolist() == rows.tolist()
            for name, lists in half.lists.items():
                assert torch.equal(lists.ids, expected.lists[name].ids)
                assert torch.equal(lists.offsets, expected.lists[name].offsets)
            assert half.lists["own"].ids.tolist() == np.repeat(rows, rows % 3).tolist()


@pytest.mark.parametrize("kind", ["<U1", object, np.int64, np.int16])
def test_any_sortable_keys(kind: Any) -> None:
    keys = KEYS if kind in ("<U1", object) else np.array([ord(key) for key in KEYS])
    found, expected = (list(keyed(keys=each).epoch(0)) for each in (keys.astype(kind), KEYS))
    assert list(map(halves_of, found)) == list(map(halves_of, expected))


@pytest.mark.parametrize("sampling", ["proportional", "uniform"])
def test_too_few_large_keys_are_an_error_that_tells_the_fix(sampling: Literal["proportional", "uniform"]) -> None:
    columns = columns_of(120)
    largest = max(int((KNOWN & (key == KEYS)).sum()) for key in "abcde")
    message = (
        rf"1 of 5 keys have min_rows = {largest} usable rows \(the largest has {largest}\), and a step needs tasks = 2"
    )
    with pytest.raises(
        DataError, match=rf"{message} of them; lower min_rows or tasks, or group by a key with more rows"
    ):
        keyed(min_rows=largest, tasks=2, sampling=sampling)
    with pytest.raises(DataError, match=r"4 of 5 keys .* tasks = 5"):
        keyed(tasks=5, sampling=sampling)
    with pytest.raises(DataError, match=r"0 of 0 keys have min_rows = 2 usable rows \(the largest has 0\)"):
        Keyed.of(columns, KEYS, np.zeros(120, np.bool_), 24, 1, 0, sampling=sampling)
    assert len(keyed(tasks=4, sampling=sampling)) == 4
