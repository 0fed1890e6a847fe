"""Maps of log odds against a slow reading of their nodes."""

import numpy as np
import pytest
import torch

from funnelcast.calibration.step_map import StepMap

MAPS = {
    "affine": StepMap("affine", (0.5,), (0.2,), 0.7, 0.7),
    "isotonic": StepMap("isotonic", (-3.0, -1.0, 0.5, 2.0), (-4.0, -0.5, -0.2, 3.0)),
}


def slowly(found: StepMap, x: float) -> float:
    """By its definition."""
    if x <= found.x[0]:
        return found.y[0] + found.below * (x - found.x[0])
    for i in range(len(found.x) - 1):
        if x <= found.x[i + 1]:
            share = (x - found.x[i]) / (found.x[i + 1] - found.x[i])
            return (1 - share) * found.y[i] + share * found.y[i + 1]
    return found.y[-1] + found.above * (x - found.x[-1])


@pytest.mark.parametrize("name", MAPS)
def test_a_map_is_linear_between_its_nodes(name: str) -> None:
    found = MAPS[name]
    x = np.concatenate([np.random.default_rng(0).normal(0, 3, 200), found.x, [-40.0, 40.0, -1e4, 1e4]])
    expected = [slowly(found, value) for value in x]
    np.testing.assert_allclose(found(torch.from_numpy(x)).numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", MAPS)
def test_a_map_is_strictly_increasing(name: str) -> None:
    x = np.unique(np.random.default_rng(1).normal(0, 4, 1_000_000).astype(np.float32)).astype(np.float64)
    assert (np.diff(MAPS[name](torch.from_numpy(x)).numpy()) > 0).all()


def test_none_leaves_every_bit() -> None:
    x = torch.randn(100, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert StepMap()(x) is x
