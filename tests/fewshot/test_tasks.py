"""Which rows count, how many a support has, and tasks of a table."""

import numpy as np
import pytest

from funnelcast.data.columns import UNOBSERVED, Columns
from funnelcast.data.table import Table
from funnelcast.errors import DataError, TableError
from funnelcast.fewshot.tasks import TaskOutput, unseen_tasks
from tests.fewshot.tiny import CLICK, CONVERSION, FUNNEL, write_table

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
        TaskOutput.of(FUNNEL, "conversions")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return write_table(tmp_path_factory.mktemp("few") / "table")


def test_the_tasks_of_a_table_are_what_test_rows_alone_have(table: Table) -> None:
    found = unseen_tasks(table, "campaign", CLICK, support=30, query=20, seed=1)
    assert [task.name for task in found] == ["0", "22", "23", "24", "25", "26"]
    campaign = table.side("test")["campaign"].fill_null(-1).to_numpy()
    for task in found:
        own = table.part("test").ids[campaign == int(task.name)]
        mine = np.concatenate([task.support.ids, task.query.ids])
        assert len(task.support) == 30 and sorted(map(tuple, mine.tolist())) == sorted(map(tuple, own.tolist()))
        assert not np.array_equal(mine, own)
    second, other = (unseen_tasks(table, "campaign", CLICK, 30, 20, seed)[0] for seed in (1, 2))
    assert np.array_equal(second.support.ids, found[0].support.ids)
    assert not np.array_equal(other.support.ids, found[0].support.ids)


def test_a_support_of_clicks_has_the_rows_between_them(table: Table) -> None:
    """A smaller support begins with the same rows; those with too few clicks are no tasks."""
    small, large = (unseen_tasks(table, "campaign", CONVERSION, size, 1) for size in (1, 3))
    by_name = {task.name: task for task in small}
    campaign, clicked = table.side("test")["campaign"].fill_null(-1).to_numpy(), CONVERSION.space(table.part("test"))
    clicks = {str(c): int(clicked[campaign == c].sum()) for c in (0, *range(22, 27))}
    assert [task.name for task in large] == [name for name, count in clicks.items() if count >= 4] != list(clicks)
    for task in large:
        few = by_name[task.name]
        assert [int(CONVERSION.space(each.support).sum()) for each in (few, task)] == [1, 3]
        assert CONVERSION.space(task.support)[-1] and CONVERSION.space(task.query).any()
        assert np.array_equal(task.support.ids[: len(few.support)], few.support.ids)


@pytest.mark.parametrize(
    ("by", "support", "query", "message"),
    [
        ("campaign", 1000, 10, "of 6 values of 'campaign' that test rows alone have, 0 have 1,000 \\+ 10 rows"),
        ("f0", 1, 1, "has no f0 in its test rows that train and dev rows have not; keep some out"),
        ("campain", 1, 1, "no column 'campain' to group by; did you mean 'campaign'"),
    ],
)
def test_too_few_tasks_are_refused(table: Table, by: str, support: int, query: int, message: str) -> None:
    with pytest.raises(TableError, match=message):
        unseen_tasks(table, by, CLICK, support, query)
