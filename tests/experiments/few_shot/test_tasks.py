"""Which rows count, how many a support has, and tasks of a table."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from funnelcast.data.columns import UNOBSERVED, Columns
from funnelcast.errors import DataError, TableError
from funnelcast.experiments.few_shot import tasks
from funnelcast.experiments.few_shot.tasks import Asked, tasks_of
from funnelcast.experiments.groups import Groups
from tests import tiny
from tests.experiments.few_shot.tiny import CLICK, CONVERSION, FUNNEL, law

LABELS = [[0, 0], [1, 0], [UNOBSERVED, 0], [1, 1], [1, UNOBSERVED], [0, 0], [1, 0]]


def rows() -> Columns:
    count = len(LABELS)
    ids = np.arange(1, count + 1, dtype=np.int32)[:, None]
    return Columns(ids, np.empty((count, 0), np.float32), labels=np.array(LABELS, np.uint8))


def test_rows_that_count_are_observed_and_reached_the_step_before() -> None:
    assert CLICK.counted(rows()).ids[:, 0].tolist() == [1, 2, 4, 5, 6, 7]
    counted = CONVERSION.counted(rows())
    assert counted.ids[:, 0].tolist() == [2, 4, 7] and CONVERSION.labels(counted).tolist() == [0, 1, 0]


@pytest.mark.parametrize(("size", "length"), [(0, 0), (1, 2), (2, 4), (3, 7)])
def test_a_support_of_so_many_clicks_has_all_rows_up_to_the_last_one(size: int, length: int) -> None:
    first = CONVERSION.first(rows(), size)
    assert first.ids[:, 0].tolist() == list(range(1, length + 1))


def test_the_logs_of_an_output() -> None:
    log_p, log_q = np.log([[0.5, 0.1]]), np.log([[0.5, 0.9]])
    assert [float(each[0]) for each in CLICK.logs(log_p, log_q)] == pytest.approx([np.log(0.5), np.log(0.5)])
    assert [float(each[0]) for each in CONVERSION.logs(log_p, log_q)] == pytest.approx([np.log(0.2), np.log(0.8)])


def test_an_unknown_output_is_named() -> None:
    with pytest.raises(DataError, match="'conversions' is no output of this funnel; did you mean 'conversion'"):
        Asked.of(FUNNEL, "conversions")


def test_tasks_of_a_tables_column(tmp_path: Path) -> None:
    table = law().write_table(tmp_path / "table", train=600, dev=300, test=900, campaigns=20)
    found = tasks_of(table, "test", "campaign", support=30, query=20, seed=1)
    campaign = table.side("test")["campaign"].to_numpy()
    names, counts = np.unique(campaign, return_counts=True)
    assert [task.name for task in found] == [str(name) for name in names[counts >= 50]] and len(found) >= 3
    for task in found:
        own = table.part("test").ids[campaign == int(task.name)]
        mine = np.concatenate([task.support.ids, task.query.ids])
        assert len(task.support) == 30 and sorted(map(tuple, mine.tolist())) == sorted(map(tuple, own.tolist()))
        assert not np.array_equal(mine, own)
    again, other = (tasks_of(table, "test", "campaign", 30, 20, seed)[0] for seed in (1, 2))
    assert np.array_equal(again.support.ids, found[0].support.ids)
    assert not np.array_equal(other.support.ids, found[0].support.ids)


def of_keys(keys: NDArray[np.int64], monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Groups]:
    """A table of rows with these keys, a seventh of which are not known, and its groups."""
    rows = Columns(np.arange(len(keys), dtype=np.int32)[:, None], np.empty((len(keys), 0), np.float32))
    groups = Groups(keys, keys % 7 > 0, str)
    monkeypatch.setattr(tasks, "group_by", lambda *_: groups)
    return SimpleNamespace(part=lambda _: rows, side=lambda _: None), groups


def test_the_rows_of_a_task_are_those_of_its_key_in_their_random_order(monkeypatch: pytest.MonkeyPatch) -> None:
    table, groups = of_keys(np.random.default_rng(0).integers(0, 300, 1200), monkeypatch)
    found = tasks_of(table, "test", "key", 2, 1)
    mixed = np.random.default_rng(0).permutation(np.flatnonzero(groups.is_known))
    owned = {k: mixed[groups.keys[mixed] == k] for k in range(300)}
    assert [int(task.name) for task in found] == [k for k, own in owned.items() if len(own) >= 3]
    for task in found:
        own = owned[int(task.name)].tolist()
        assert (task.support.ids[:, 0].tolist(), task.query.ids[:, 0].tolist()) == (own[:2], own[2:])
    assert tasks_of(table, "test", "key", 99, 1) == []


def test_tasks_of_an_id_feature_leave_out_unknown_ids(tmp_path: Path) -> None:
    table = tiny.write_table(tmp_path / "table", test=600)
    found = tasks_of(table, "test", "user", support=10, query=10)
    assert {task.name for task in found} == {f"u{i}" for i in range(tiny.USERS)}
    with pytest.raises(TableError, match="no column 'users'"):
        tasks_of(table, "test", "users", 1, 1)
