"""Calibrations of a funnel: along its edges, by the values of a field, and as files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from funnelcast.calibration.calibration import Calibration, FieldOffsets
from funnelcast.calibration.step_map import StepMap
from funnelcast.data.batch import Batch
from funnelcast.ops.reach import HEADS, Reach

PARENTS = (-1, 0, 1, 0)
STEPS = (
    StepMap("affine", (0.0,), (0.4,), 1.3, 1.3),
    StepMap(),
    StepMap("isotonic", (-2.0, 0.0, 1.0), (-2.5, 0.3, 0.9)),
    StepMap("affine", (1.0,), (-1.0,), 0.5, 0.5),
)
OFFSETS = FieldOffsets("item", 1, [2, 5], [[0.5, 0.0, 0.0, -0.5], [-1.0, 0.0, 0.2, 0.0]], [0.1, 0.0, 0.0, 0.0])


def batch(rows: int) -> Batch:
    ids = torch.arange(2 * rows, dtype=torch.int32).reshape(rows, 2) % 7
    return Batch(ids, torch.zeros(rows, 0))


def reach(rows: int, scale: float, head: str = "chain") -> Reach:
    logits = scale * torch.randn(rows, len(PARENTS), generator=torch.Generator().manual_seed(0))
    return HEADS[head](logits, PARENTS)  # type: ignore[index]


def calibration(offsets: FieldOffsets | None = OFFSETS) -> Calibration:
    return Calibration(STEPS, PARENTS, 100, {"part": "dev"}, offsets)


def given(found: Reach) -> torch.Tensor:
    """Probabilities (B, T) of each step given its parent."""
    own = [found.log_p[:, t] - (found.log_p[:, p] if p >= 0 else 0) for t, p in enumerate(PARENTS)]
    return torch.stack(own, 1).exp()


def test_each_step_is_mapped_given_its_parent() -> None:
    before = Reach(*(each.double() for each in reach(50, 1.0)))
    after, ids = calibration()(before, batch(50)), batch(50).ids[:, 1].tolist()
    logits = torch.logit(given(before))
    for i, item in enumerate(ids):
        own = OFFSETS.values[OFFSETS.ids.index(item)] if item in OFFSETS.ids else OFFSETS.others
        for t, step in enumerate(STEPS):
            expected = torch.sigmoid(step(logits[i : i + 1, t]) + own[t])
            assert given(after)[i, t].item() == pytest.approx(expected.item(), abs=1e-6)
    assert torch.allclose(after.log_p.exp() + after.log_q.exp(), torch.ones(()).double())


@pytest.mark.parametrize("head", ["chain", "independent"])
@pytest.mark.parametrize("scale", [3.0, 40.0, 1e4])
def test_no_step_is_likelier_than_its_parent(head: str, scale: float) -> None:
    rows = 1_000_000 if (head, scale) == ("chain", 3.0) else 20_000
    after = calibration()(reach(rows, scale, head), batch(rows))
    assert torch.isfinite(after.log_p).all() and torch.isfinite(after.log_q).all()
    assert (after.log_p <= 0).all() and (after.log_q <= 0).all()
    for t, parent in enumerate(PARENTS):
        assert parent < 0 or (after.log_p[:, t] <= after.log_p[:, parent]).all()


def test_one_that_changes_nothing_leaves_every_bit() -> None:
    before, nothing = reach(20, 2.0), Calibration((StepMap(),) * 4, PARENTS, 0)
    assert nothing.is_identity and nothing(before, batch(20)) is before and not calibration().is_identity
    assert not replace(nothing, offsets=OFFSETS).is_identity


@pytest.mark.parametrize("offsets", [OFFSETS, None])
def test_what_was_saved_is_loaded(offsets: FieldOffsets | None, tmp_path: Path) -> None:
    own = calibration(offsets)
    own.save(tmp_path)
    loaded, before = Calibration.load(tmp_path), reach(200, 2.0)
    for a, b in zip(own(before, batch(200)), loaded(before, batch(200)), strict=True):
        assert torch.equal(a, b)
    assert loaded.fingerprint == own.fingerprint != calibration(None if offsets else OFFSETS).fingerprint
    assert (loaded.rows, loaded.source) == (100, {"part": "dev"})


def test_ids_beyond_those_that_are_known_have_the_offset_of_others() -> None:
    found = OFFSETS(torch.tensor([0, 2, 3, 5, 6, 2_000_000_000], dtype=torch.int32))[:, 0]
    np.testing.assert_array_equal(found, [0.1, 0.5, 0.1, -1.0, 0.1, 0.1])
