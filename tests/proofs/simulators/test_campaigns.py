"""The simulator of campaigns is what it says: rates, differences of campaigns, none in the control, by its seed."""

from pathlib import Path

import numpy as np
import pytest

from funnelcast.data.columns import Columns
from proofs.simulators.campaigns import ALIKE, LEAST, RATES, SIZES, CampaignSimulator, Differences, encoder

SIMULATED = CampaignSimulator(1)
ROWS = 60_000


def test_rates_over_campaigns_and_rows() -> None:
    own = SIMULATED.draw_campaigns(ROWS)
    drawn = SIMULATED.sample(own, np.random.default_rng(0))
    labels, p = drawn.columns.labels, drawn.p
    assert labels is not None
    click, conversion = labels.T == 1
    assert p[:, 0].mean() == pytest.approx(RATES[0], rel=0.05)
    assert np.average(p[:, 1], weights=p[:, 0]) == pytest.approx(RATES[1], rel=0.1)
    assert not np.any(conversion & ~click)
    for q, y in ((p[:, 0], click), (p[click, 1], conversion[click])):
        assert abs(y.mean() - q.mean()) < 4 * (q.mean() / len(y)) ** 0.5  # labels come from the stated probabilities


def test_ids_are_uniform_and_directions_are_centred() -> None:
    drawn = SIMULATED.sample(SIMULATED.draw_campaigns(ROWS), np.random.default_rng(0)).columns
    for f, size in enumerate(SIZES):
        assert np.bincount(drawn.ids[:, f], minlength=size + 1)[1:].min() > 0.7 * ROWS / size
    design = SIMULATED.design(drawn.ids)
    assert (design[:, 0] == 1).all()
    np.testing.assert_allclose(design[:, 1:].mean(0), 0, atol=0.02)
    np.testing.assert_allclose(np.cov(design[:, 1:].T), np.eye(2), atol=0.03)
    assert SIMULATED.base(drawn.ids).std(0) == pytest.approx([0.8, 0.8], rel=0.05)


def test_campaigns_differ_as_stated() -> None:
    own = SIMULATED.draw_campaigns(ROWS).reshape(ROWS, 6)
    np.testing.assert_allclose(np.cov(own.T), SIMULATED.covariance, atol=0.01)
    assert SIMULATED.covariance[0, 0] == pytest.approx(0.49) and SIMULATED.covariance[0, 3] == pytest.approx(0.245)
    assert np.trace(SIMULATED.covariance[1:3, 1:3]) == pytest.approx(0.25)  # the variance of tastes over rows
    assert SIMULATED.covariance[1, 4] == pytest.approx(0.0625) and SIMULATED.covariance[0, 1] == 0


def test_the_control_has_no_differences_and_the_same_rates() -> None:
    simulator = CampaignSimulator(1, ALIKE)
    assert not simulator.draw_campaigns(50).any() and not simulator.covariance.any()
    p = simulator.sample(simulator.draw_campaigns(ROWS), np.random.default_rng(0)).p
    assert p[:, 0].mean() == pytest.approx(RATES[0], rel=0.05)
    assert simulator.intercepts[0] > SIMULATED.intercepts[0]  # differences alone raise a rate


def test_the_same_seed_is_the_same_process_and_held_out_campaigns_are_others() -> None:
    second, other = CampaignSimulator(1), CampaignSimulator(2)
    ids = SIMULATED.sample(SIMULATED.draw_campaigns(9), np.random.default_rng(0)).columns.ids
    assert np.array_equal(second.base(ids), SIMULATED.base(ids)) and not np.allclose(
        other.base(ids), SIMULATED.base(ids)
    )
    own, held_out = SIMULATED.draw_campaigns(9), SIMULATED.draw_campaigns(9, held_out=True)
    assert np.array_equal(own[:5], SIMULATED.draw_campaigns(5))
    assert np.abs(own[:, None] - held_out[None]).max((2, 3)).min() > 0.01


def test_campaigns_that_differ_more() -> None:
    simulator = CampaignSimulator(1, Differences(offset=2.0, taste=0.0, correlation=0.0))
    own = simulator.draw_campaigns(2000)
    assert own[:, :, 0].std() == pytest.approx(2, rel=0.05) and not own[:, :, 1:].any()
    p = simulator.sample(simulator.draw_campaigns(ROWS), np.random.default_rng(0)).p
    assert p[:, 0].mean() == pytest.approx(RATES[0], rel=0.1)


@pytest.mark.parametrize("feature", [False, True])
def test_its_table(tmp_path: Path, feature: bool) -> None:
    rows = {"train": 6000, "dev": 500, "test": 700}
    table = SIMULATED.write_table(tmp_path / "table", **rows, campaigns=30, feature=feature)
    assert {part: table.rows(part) for part in rows} == rows
    campaign = table.side("train")["campaign"].to_numpy()
    counts = np.bincount(campaign, minlength=30)
    assert counts.min() >= LEAST and counts.max() > 5 * counts.min()
    assert set(table.side("test")["campaign"].to_pylist()) <= set(range(30))
    columns: Columns = table.part("train")
    assert table.encoder.inputs == encoder(30 if feature else 0).inputs
    if feature:
        assert np.array_equal(columns.ids[:, len(SIZES)], campaign + 1)
    own, design = SIMULATED.draw_campaigns(30)[campaign], SIMULATED.design(columns.ids)
    logits = SIMULATED.base(columns.ids) + np.einsum("nd,nkd->nk", design, own)
    beside = [table.side("train")[f"true_p_{name}"].to_numpy() for name in ("click", "conversion_given_click")]
    np.testing.assert_allclose(np.stack(beside, 1), 1 / (1 + np.exp(-logits)))
