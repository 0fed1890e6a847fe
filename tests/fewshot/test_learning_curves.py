"""The files of a figure: whole, the same each time, without anything from elsewhere."""

import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from funnelcast.evaluation.auc import Interval
from funnelcast.fewshot.learning_curves import _apart, _limits, _xs, draw_curves

SIZES = (0, 16, 64, 256, 1024)


def curve(*values: float) -> list[Interval]:
    return [Interval(value, value - 0.001, value + 0.001, 0.0005) for value in values]


CURVES = {
    "adapted": curve(0, 0.001, 0.004, 0.007, 0.009),
    "from scratch": curve(-0.5, -0.2, -0.1, -0.05, -0.02),
    "ceiling": curve(0.001, 0.002, 0.005, 0.008, 0.012),
}


def draw(folder: Path, **changes: str) -> list[Path]:
    names = {"title": "click", "rows": "impressions", "over": "plain", "ceiling": "ceiling"} | changes
    return draw_curves(CURVES, SIZES, folder / "figure", **names)


def test_both_files_are_there(tmp_path: Path) -> None:
    svg, png = draw(tmp_path)
    assert [path.name for path in (svg, png)] == ["figure.svg", "figure.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figure.png", "figure.svg"]
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and len(png.read_bytes()) > 20_000


def test_the_svg_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    text = draw(tmp_path)[0].read_text()
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "DOCTYPE" not in text and not re.search(r"@import|<image|<script|font-family|url\((?!#)", text)
    links = {v for node in root.iter() for k, v in node.attrib.items() if k.endswith("href")}
    assert links and all(link.startswith("#") for link in links)
    assert set(re.findall(r"https?://[^\"<\s]+", text)) == {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


@pytest.mark.slow
def test_the_same_figures_give_the_same_bytes(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in draw(tmp_path / "a")]
    assert first == [path.read_bytes() for path in draw(tmp_path / "b")]
    assert first[0] != draw(tmp_path / "c", title="another")[0].read_bytes()


def test_0_stands_a_step_before_the_first_size() -> None:
    assert _xs(SIZES).tolist() == [2, 4, 6, 8, 10]
    assert _xs((0, 8)).tolist() == [2, 3]


def test_the_picture_holds_what_is_gained_and_its_bands_but_not_what_is_hopeless() -> None:
    bottom, top = _limits(CURVES, "ceiling")
    assert (bottom, top) == pytest.approx((-0.8 * 0.0126, 0.0126))
    wide = CURVES | {"noisy": [Interval(0.001, -0.3, 0.3, 0.1)] * 5}
    assert _limits(wide, "ceiling")[1] == pytest.approx(0.315)
    assert _limits(wide, "noisy")[1] == pytest.approx(0.01365)
    assert _limits({"one": curve(0.01) * 5}, None)[0] == pytest.approx(-0.04 * 0.01155)


@pytest.mark.parametrize("heights", [[0.0, 0.0, 0.0], [0.9, 0.95, 1.0], [0.1, 0.5, 0.9]])
def test_labels_are_moved_apart_in_their_order(heights: list[float]) -> None:
    placed = _apart(heights, 0.1, 1.0)
    assert min(high - low for low, high in pairwise(placed)) >= 0.1 - 1e-12 and max(placed) <= 1
    if min(high - low for low, high in pairwise(heights)) > 0.1:
        assert placed == heights
