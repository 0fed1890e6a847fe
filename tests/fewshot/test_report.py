"""Means over tasks and paired differences, by hand; and that all of it is JSON."""

import json
import math

import numpy as np
import pytest

from funnelcast.evaluation.rows import Floats
from funnelcast.fewshot.protocol import Figures, Measured
from funnelcast.fewshot.report import gains, measured_of, report

NAN = math.nan


def figures(loss: list[list[float]], auc: list[list[float]], ratio: list[list[float]]) -> Figures:
    of: list[Floats] = [np.array(values) for values in (loss, auc, ratio)]
    return Figures(*of)


MEASURED = Measured(
    "click",
    (0, 16),
    ("a", "b", "c", "d"),
    {
        "one": figures([[5, 6, 7, 8], [4, 4, 4, 4]], [[0.5, NAN, 0.7, 0.6]] * 2, [[1, 1.5, 0.5, 1], [1, 1, 1, 2]]),
        "two": figures([[5, 6, 7, 8], [5, 6, 7, 8]], [[NAN] * 4] * 2, [[1, 1, 1, NAN]] * 2),
    },
)


def test_gains_are_paired_over_tasks() -> None:
    """1, 2, 3, 4: mean 2.5, deviation √(5/3); Student's t with 3 degrees of freedom has its quantile at 3.182."""
    none, gain = gains(MEASURED, "one", "two")
    assert (none.estimate, none.low, none.high) == (0, 0, 0)
    assert gain.estimate == 2.5 and gain.std_error == pytest.approx((5 / 3) ** 0.5 / 2)
    assert gain.high - 2.5 == pytest.approx(3.182 * (5 / 3) ** 0.5 / 2, rel=0.01)
    assert gains(MEASURED, "two", "one")[1].estimate == -2.5


def test_the_report_by_hand() -> None:
    written = json.loads(json.dumps(report(MEASURED), allow_nan=False))
    assert written["output"] == "click" and written["sizes"] == [0, 16] and written["tasks"] == ["a", "b", "c", "d"]
    one, two = written["methods"]["one"], written["methods"]["two"]
    assert [each["estimate"] for each in one["log_loss"]] == [6.5, 4]
    assert one["auc"][0]["estimate"] == pytest.approx(0.6) and one["auc"][0]["note"].startswith("1 of 4 undefined")
    assert two["auc"][0]["estimate"] is None
    assert [each["estimate"] for each in one["calibration_error"]] == [0.25, 0.25]
    assert two["calibration_error"][0]["note"].startswith("1 of 4 undefined")
    assert written["gain_over"]["one"]["two"][1]["estimate"] == 2.5 and "one" not in written["gain_over"]["one"]
    assert written["by_task"]["one"]["auc"][0] == [0.5, None, 0.7, 0.6]


def test_what_was_measured_is_read_again_from_its_report() -> None:
    second = measured_of(json.loads(json.dumps(report(MEASURED))))
    assert (second.output, second.sizes, second.tasks) == (MEASURED.output, MEASURED.sizes, MEASURED.tasks)
    for name, own in MEASURED.figures.items():
        for figure, values in own._asdict().items():
            np.testing.assert_allclose(getattr(second.figures[name], figure), values, rtol=1e-6, err_msg=figure)
    assert report(second) == report(measured_of(report(second)))
