"""Held-out campaigns as tasks: their sizes, the order of their rows, and whose rows they are."""

import numpy as np
import pytest

from funnelcast.fewshot.tasks import TaskOutput
from funnelcast.schema.funnel import Funnel
from proofs.simulators.campaign_tasks import CampaignTasks
from proofs.simulators.campaigns import SIZES, CampaignSimulator

SIMULATED = CampaignSimulator(1)
FUNNEL = Funnel.parse("click; conversion after click")
outputs = pytest.mark.parametrize("output", ["click", "conversion_given_click"])


@outputs
def test_as_many_rows_count_as_are_asked_for(output: str) -> None:
    target = TaskOutput.of(FUNNEL, output)
    for task in CampaignTasks(SIMULATED, target, number=3, support=40, query=50):
        assert target.space(task.support).sum() == 40 and target.space(task.support)[-1]
        assert len(task.query) == 50 and target.space(task.query).all()
        assert (len(task.support) > 200) == (output != "click")


@outputs
def test_more_rows_begin_with_the_same_ones_and_the_query_stays(output: str) -> None:
    target = TaskOutput.of(FUNNEL, output)
    few, many = (CampaignTasks(SIMULATED, target, number=4, support=size, query=30)[2] for size in (20, 300))
    assert np.array_equal(many.support.ids[: len(few.support)], few.support.ids)
    assert many.support.labels is not None and few.support.labels is not None
    assert np.array_equal(many.support.labels[: len(few.support)], few.support.labels)
    assert np.array_equal(many.query.ids, few.query.ids)
    assert not np.array_equal(few.support.ids[:20], few.query.ids[:20])


def test_a_task_is_of_its_campaign() -> None:
    """Rows of the campaign with the highest offset among 30 are clicked far more often than those of the lowest."""
    tasks = CampaignTasks(SIMULATED, TaskOutput.of(FUNNEL, "click"), number=30, support=2000, query=10)
    offsets = SIMULATED.draw_campaigns(30, held_out=True)[:, 0, 0]
    assert np.array_equal(offsets, tasks.own[:, 0, 0])
    rates = [tasks[int(i)].support.labels[:, 0].mean() for i in (offsets.argmin(), offsets.argmax())]  # type: ignore[index]
    assert rates[1] > 4 * rates[0]


def test_the_truth_of_the_query_rows() -> None:
    tasks = CampaignTasks(SIMULATED, TaskOutput.of(FUNNEL, "click"), number=2, support=5, query=60)
    ids, own = tasks[1].query.ids, tasks.own[1]
    np.testing.assert_allclose(tasks.truth(1), 1 / (1 + np.exp(-SIMULATED.base(ids) - SIMULATED.design(ids) @ own.T)))


def test_it_is_a_sequence_and_campaigns_may_be_unknown_ids() -> None:
    tasks = CampaignTasks(SIMULATED, TaskOutput.of(FUNNEL, "click"), number=3, support=4, query=5, feature=True)
    assert [task.name for task in tasks] == ["held-out 0", "held-out 1", "held-out 2"] == [t.name for t in tasks[:]]
    assert tasks[0].query.ids.shape == (5, len(SIZES) + 1) and not tasks[0].query.ids[:, -1].any()
    with pytest.raises(IndexError):
        tasks[3]
