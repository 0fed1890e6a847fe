"""Figures: one for each part of a diagnosis that is there, small, the same each time, fit for a page of any colour."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

from funnelcast.errors import FunnelcastError
from funnelcast.reports.benchmark_figures import benchmark_figures
from funnelcast.reports.diagnosis_figures import diagnosis_figures
from funnelcast.reports.diagnosis_tables import numbers_of
from funnelcast.reports.drawing.diagnosis_charts import _limits, label_of, paint_scores, ticks_of
from funnelcast.reports.drawing.row_charts import Dot, paint_dots
from funnelcast.reports.drawing.style import LIGHT
from funnelcast.reports.drawing.svg import Picture, _as_attributes, picture
from funnelcast.reports.run_folder import BenchmarkRun, read_run
from funnelcast.reports.training_curves import kept_of, stages_of
from tests.reports.runs import ODD, bins, diagnosis, epoch

pytestmark = pytest.mark.slow

FIGURES = {
    "epochs": 3,
    "calibration": 2,
    "scores": 1,
    "frequency": 3,
    "gates": 2,
    "attention": 1,
    "conflict": 1,
    "time": 1,
}


@pytest.fixture(scope="module")
def drawn() -> list[Picture]:
    return diagnosis_figures(diagnosis(), "m-", "m")


def texts(found: Picture) -> list[str]:
    root = ElementTree.fromstring(found.inline)
    return [node.text or "" for node in root.iter("{http://www.w3.org/2000/svg}text")]


def titled(found: list[Picture], title: str) -> Picture:
    return next(each for each in found if each.title == title)


def test_every_part_has_its_figures(drawn: list[Picture]) -> None:
    assert len(drawn) == sum(FIGURES.values()) == len({each.stem for each in drawn})
    assert all(each.stem.startswith("m-") for each in drawn)
    assert sum(each.is_first for each in drawn) == 6  # attention, conflict and time share a row


@pytest.mark.parametrize("part", FIGURES)
def test_a_part_that_is_missing_is_left_out(part: str) -> None:
    alone = diagnosis_figures({part: diagnosis()[part]}, "", "m")
    assert len(alone) == FIGURES[part] and alone[0].is_first
    nothings: list[Any] = [None, [], {}]
    assert [diagnosis_figures({part: nothing}, "", "m") for nothing in nothings] == [[], [], []]


@pytest.mark.parametrize(
    ("part", "value"),
    [("gates", {"click": {}}), ("calibration", [1]), ("time", [{"part": "x"}]), ("attention", [{"quantiles": [1]}])],
)
def test_another_structure_is_told(part: str, value: Any) -> None:
    with pytest.raises(FunnelcastError, match=f"diagnosis of m has another structure .* at '{part}'"):
        diagnosis_figures({part: value}, "", "m")


def test_svgs_are_small_strict_and_named(drawn: list[Picture]) -> None:
    ids = Counter(re.findall(r' id="([^"]+)"', "".join(each.inline for each in drawn)))
    assert set(ids.values()) == {1}
    for each in drawn:
        assert len(each.inline) < 15_000
        assert not re.search(r"style=|<style|<metadata|xlink|DOCTYPE|#0[0-9]{5}|DejaVu", each.inline)
        root = ElementTree.fromstring(each.inline)
        assert root.get("role") == "img"
        label = root.find("{http://www.w3.org/2000/svg}title")
        assert label is not None and label.text == each.title and label.get("id") == root.get("aria-labelledby")
        used = re.findall(r'(?:href="|url\()#([\w-]+)', each.inline)
        assert set(used) <= set(ids)


def test_in_the_page_figures_have_its_colours_and_alone_their_own(drawn: list[Picture]) -> None:
    for each in drawn:
        assert "currentColor" in each.inline and "var(--" in each.inline
        colours = set(re.findall(r'(?:fill|stroke)="(#\w+)"', each.standalone))
        assert colours <= {*LIGHT.values(), "#ffffff"} and len(colours) > 2
        assert "var(" not in each.standalone and "currentColor" not in each.standalone
        ElementTree.fromstring(each.standalone)


@pytest.mark.slow
def test_the_same_numbers_give_the_same_bytes(drawn: list[Picture]) -> None:
    assert [each.svg for each in diagnosis_figures(diagnosis(), "m-", "m")] == [each.svg for each in drawn]


@pytest.mark.parametrize(
    "style",
    ["font: bold 9px 'DejaVu Sans', sans-serif", "font-size: 9px; font-weight: bold; font-family: 'DejaVu Sans'"],
)
def test_fonts_are_read_as_every_matplotlib_writes_them(style: str) -> None:
    node = ElementTree.Element("text", {"style": f"{style}; fill: #010101", "x": "1.2345"})
    _as_attributes(node)
    assert node.attrib.pop("font-size") == "9px"
    assert node.attrib == {"font-weight": "bold", "fill": "#010101", "x": "1.2"}


def test_names_are_text(drawn: list[Picture]) -> None:
    def paint(axes: Axes) -> None:
        paint_dots(axes, [Dot('<b>&"$x_1$', 0.5), Dot("日本 " + 40 * "x", 0.6, 0.5, 0.7)], label="$\\alpha$")

    found = texts(picture("x", 'a <b> & "c"', "", paint))
    assert '<b>&"$x_1$' in found and "$\\alpha$" in found
    assert any(text.startswith("日本 x") and text.endswith("…") and len(text) == 24 for text in found)


def test_every_number_of_a_gate_and_of_time_is_written(drawn: list[Picture]) -> None:
    assert {"own 1", "40 %", "shared 2", "10 %"} <= set(texts(titled(drawn, "Experts of click")))
    assert (
        "Entropy 1.10 of at most 1.39 nats: a row uses as many as 3.0 of 4."
        in titled(drawn, "Experts of click").caption
    )
    assert {"forward", "10.0 ms, 25 %", "30.0 ms, 75 %"} <= set(texts(titled(drawn, "Time of a training step")))


def test_buckets_with_too_few_rows_have_no_dot(drawn: list[Picture]) -> None:
    found = texts(titled(drawn, "AUC of click by frequency of item"))
    assert "too few" in found and {"1.2M rows", "40k pos.", "90 rows"} <= set(found)
    few = diagnosis()["frequency"]
    few["outputs"] = {"click": few["outputs"]["click"][:1]}
    assert diagnosis_figures({"frequency": few}, "", "m") == []


def test_small_rates_stand_on_logarithmic_axes(drawn: list[Picture]) -> None:
    assert "0.005" in texts(titled(drawn, "Calibration of click"))
    assert "0.0" in texts(titled(drawn, "Calibration of conversion"))
    low, high = _limits([bins(None, 0.02)], True)
    assert 0 < low < 0.02 * 0.2 and 0.9 * 0.02 * 1.6 < high < 0.1
    assert list(_limits([bins(None, 0.5)], False)) == pytest.approx([0.0, 0.84])


@pytest.mark.parametrize(("low", "high"), [(1e-4, 1), (0.19, 0.33), (0.012, 0.013), (1e-7, 0.4), (0.5, 1)])
def test_ticks_of_probabilities_are_few_and_inside(low: float, high: float) -> None:
    ticks = [10**tick for tick in ticks_of(math.log10(low), math.log10(high))]
    assert 3 <= len(ticks) <= 7 and all(low * (1 - 1e-8) <= tick <= high * 1.001 for tick in ticks)
    assert list(np.argsort(ticks)) == list(range(len(ticks)))


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-4.0, 0.0, ["0.0001", "0.001", "0.01", "0.1", "1"]),
        (math.log10(0.12), math.log10(0.4), ["0.15", "0.2", "0.3"]),
        (-420.0, 0.0, ["1e-420", "1e-359", "1e-298", "1e-237", "1e-176", "1e-115", "1e-54"]),
        (-400.9, -400.2, ["1.5e-401", "2e-401", "3e-401", "5e-401"]),
        (-400.5, -400.5 + 1e-6, ["3.2e-401"] * 3),
    ],
)
def test_labels_of_ticks(low: float, high: float, expected: list[str]) -> None:
    assert [label_of(tick) for tick in ticks_of(low, high)] == expected


@pytest.mark.parametrize("low", [-3.0, -400.0])
def test_scores_of_little_weight_and_of_tiny_probabilities(low: float) -> None:
    figure = Figure()
    axes = figure.subplots()
    paint_scores(axes, [low, low / 2, 0.0], [0.1, 0.3], [0.0, 0.0])
    shares = [np.asarray(patch.get_data()[0]).tolist() for patch in axes.patches if isinstance(patch, StepPatch)]
    assert shares[0] == pytest.approx([0.25, 0.75]) and shares[-1] == [0, 0]
    figure.draw_without_rendering()


def test_stages_and_kept_epochs() -> None:
    epochs = [epoch(i) for i in range(5)]
    assert stages_of(epochs) == {0: "general", 4: "top"}
    assert kept_of(epochs) == [3, 5]
    assert kept_of([{**each, "is_best": False} for each in epochs]) == []


def test_weights_that_never_change_are_not_drawn() -> None:
    fixed = [{**epoch(i), "task_weights": {"click": 1.0}} for i in range(3)]
    assert [each.title for each in diagnosis_figures({"epochs": fixed}, "", "m")] == [
        "AUC on the dev rows",
        "Training loss",
    ]


def test_a_benchmark_has_aucs_then_gains(benchmark_run: Path) -> None:
    run = read_run(benchmark_run)
    assert isinstance(run, BenchmarkRun)
    found = list(benchmark_figures(run))
    outputs = ["click", "conversion", "conversion_given_click"]
    assert [each.stem for each in found] == [f"auc-{o}" for o in outputs] + [f"gain-{o}" for o in outputs]
    assert [each.is_first for each in found] == [True, False, False] * 2
    assert {"bottom", ODD, "reference"} <= set(texts(found[0])) and "bottom" not in texts(found[3])


def test_numbers_of_a_diagnosis_stand_in_tables() -> None:
    found = {table.title: table for table in numbers_of(diagnosis())}
    assert len(found) == 5
    assert [cell.value for cell in found["Use of experts"].rows[0]] == [
        "click",
        "own 1",
        0.4,
        1.1,
        diagnosis()["gates"]["click"]["most"],
    ]
    assert found["Gradients of two steps"].rows[0][3][:3] == ("−.1000", -0.1, "[−.2000, −.0200]")
    assert found["AUC by frequency of item"].rows[0][4].text == "–"
    assert list(numbers_of({})) == []
    json.dumps([table.rows for table in found.values()])
