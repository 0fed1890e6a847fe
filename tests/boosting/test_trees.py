"""A constant, and the text that trees are kept as; that its leaves are added up is shown with whole models."""

import math
from pathlib import Path

import lightgbm
import numpy as np
import pytest

from funnelcast.boosting.trees import Constant, Trees, load_step


@pytest.mark.parametrize(("counts", "logit"), [((0, 0), 0.0), ((0, 9), math.log(0.5 / 9.5)), ((9, 0), math.log(19))])
def test_a_constant(counts: tuple[int, int], logit: float, tmp_path: Path) -> None:
    constant = Constant.of(*counts)
    assert constant.logits(np.zeros((3, 2))).tolist() == pytest.approx([logit] * 3)
    assert constant.save(tmp_path, "step-0.txt") == {"constant": constant.logit} and not list(tmp_path.iterdir())


def test_trees_are_the_first_rounds_whatever_the_threads(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3))
    y = (x[:, 0] + rng.normal(size=300) > 0).astype(int)
    made = []
    for threads in (1, 2):
        parameters = {"objective": "binary", "verbosity": -1, "num_threads": threads, "deterministic": True}
        made.append(lightgbm.train(parameters | {"force_row_wise": True}, lightgbm.Dataset(x, y), 5))
    trees = Trees.of(made[0], 3)
    assert trees == Trees.of(made[1], 3) != Trees.of(made[0], 4)
    assert np.array_equal(trees.logits(x), made[0].predict(x, raw_score=True, num_iteration=3))
    assert trees.logits(x[:0]).shape == (0,)
    assert load_step(tmp_path, trees.save(tmp_path, "a.txt")) == trees and (tmp_path / "a.txt").is_file()
