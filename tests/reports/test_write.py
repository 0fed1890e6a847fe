"""The files of a report: its numbers are those of the run, nothing comes from elsewhere, the same run gives the same
bytes."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from funnelcast.errors import FunnelcastError
from funnelcast.experiments.formatting import mean_and_std_text
from funnelcast.reports import page as page_module
from funnelcast.reports.content import of_benchmark, of_training
from funnelcast.reports.run_folder import BenchmarkRun, TrainingRun, read_run
from funnelcast.reports.write import report
from tests.reports.runs import ODD, OUTPUTS, diagnosis

pytestmark = pytest.mark.slow


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Parsed(HTMLParser):
    """Tags, ids, links, and the runs of the main table by row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.rows: list[list[str | None]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        self.tags.append(tag)
        self.ids += [said["id"] or ""] if "id" in said else []
        self.links += [said[key] or "" for key in ("href", "src") if key in said]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append(said.get("data-value"))
        if tag not in ("meta", "link", "wbr", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_commands_are_those_of_a_shell(benchmark_run: Path, training_run: Path) -> None:
    folder, suite, data = Path("my runs/it's"), "my suites/$a.toml", shlex.quote("the table")
    run, trained = read_run(benchmark_run), read_run(training_run)
    assert isinstance(run, BenchmarkRun) and isinstance(trained, TrainingRun)
    said = of_benchmark(replace(run, folder=folder, suite=suite, options=f"--data {data}")).commands
    seeds = ["--seeds", "2", "--out", str(folder)]
    assert shlex.split(said[0]) == ["funnelcast", "benchmark", suite, "--data", "the table", *seeds]
    report_it = ["funnelcast", "report", str(folder)]
    assert shlex.split(said[1]) == report_it
    said = of_training(replace(trained, folder=folder)).commands
    assert shlex.split(said[0])[-2:] == ["--out", str(folder)] and shlex.split(said[1]) == report_it


@pytest.fixture(params=["benchmark_report", "training_report"])
def folder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def parsed(folder: Path) -> Parsed:
    return Parsed((folder / "report.html").read_text())


def test_every_file_is_there_and_small(folder: Path) -> None:
    said = json.loads((folder / "report.json").read_text())
    figures = {figure["file"] for figure in said["figures"]}
    assert len(figures) == len(said["figures"]) > 5
    assert set(files_of(folder)) == {"report.html", "report.json", "report.md"} | figures
    assert 20_000 < (folder / "report.html").stat().st_size < 1_000_000


def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere(folder: Path, parsed: Parsed) -> None:
    assert not parsed.open
    assert len(set(parsed.ids)) == len(parsed.ids) > 10
    assert parsed.tags.count("script") == parsed.tags.count("style") == parsed.tags.count("h1") == 1
    assert not {"img", "iframe", "object", "base"} & set(parsed.tags)
    inside = {link[1:] for link in parsed.links if link.startswith("#")}
    assert inside <= set(parsed.ids)
    others = {link for link in parsed.links if not link.startswith("#")}
    assert others == {"data:,", "report.json", "report.md", "figures/"}
    text = (folder / "report.html").read_text()
    assert set(re.findall(r"https?://[^\"<\s]+", text)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'; style-src 'sha256-" in unescape(text)
    assert not re.search(r"\s(style|on\w+)=", text)


def test_every_figure_stands_in_the_page(folder: Path, parsed: Parsed) -> None:
    said = json.loads((folder / "report.json").read_text())
    assert parsed.tags.count("svg") == parsed.tags.count("figure") == len(said["figures"])


def test_figures_of_a_benchmark_are_those_of_its_results(benchmark_run: Path, benchmark_report: Path) -> None:
    results = json.loads((benchmark_run / "results.json").read_text())
    assert json.loads((benchmark_report / "report.json").read_text())["results"] == results
    rows = Parsed((benchmark_report / "report.html").read_text()).rows
    by_model = {row[0]: row for row in reversed(rows) if row and row[0]}  # the main table is the first one
    markdown = (benchmark_report / "report.md").read_text()
    for name, model in results["models"].items():
        for place, output in enumerate(OUTPUTS):
            if model["figures"]:
                found, runs = model["figures"][output]["auc"], by_model[name.casefold()][1 + 3 * place : 4 + 3 * place]
                assert float(runs[0] or "nan") == found["mean"]
                assert mean_and_std_text(found) in markdown
                if name != "bottom":
                    assert float(runs[1] or "nan") == model["gains"][output]["estimate"]
                    assert float(runs[2] or "nan") == model["gains"][output]["p_adjusted"]
    assert by_model["absent"][1:] == [None] * 9


def test_figures_of_a_training_run_are_those_of_its_results(training_run: Path, training_report: Path) -> None:
    results = json.loads((training_run / "results.json").read_text())
    assert json.loads((training_report / "report.json").read_text())["results"] == results
    rows = [row for row in Parsed((training_report / "report.html").read_text()).rows if row and row[0] in OUTPUTS]
    for part, start in (("test", 0), ("dev", 3)):
        for row in rows[start : start + 3]:
            found = results[part][row[0] or ""]
            expected = [found[key] for key in ("rows", "positives")] + [found["auc"]["estimate"], found["log_loss"]]
            assert [float(cell or "nan") for cell in row[1:5]] == expected


def test_what_failed_and_what_is_missing_is_said(benchmark_report: Path) -> None:
    for name in ("report.html", "report.md"):
        text = (benchmark_report / name).read_text().replace("&lt;", "<").replace("&gt;", ">")
        assert "out of <memory>" in text and "a trace" not in text
        assert "Runs failed and are in no figure: broken (1)." in text and "Not run yet: absent." in text


def test_names_are_text_and_no_code(benchmark_report: Path) -> None:
    text = (benchmark_report / "report.html").read_text()
    assert "<b> & " not in text.replace("<figcaption><b>", "") and "scenario <2>" not in text
    assert "MMoE &lt;b&gt; &amp; &#34;two&#34;" in text and "Small &amp; quick" in text
    for path in (benchmark_report / "figures").iterdir():
        assert "<b>" not in path.read_text()


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes(benchmark_run: Path, benchmark_report: Path, tmp_path: Path) -> None:
    said = report(benchmark_run, tmp_path / "again", {ODD: diagnosis(), "bottom": {"time": diagnosis()["time"]}})
    assert files_of(tmp_path / "again") == files_of(benchmark_report)
    assert said == json.loads((benchmark_report / "report.json").read_text())


def test_it_stands_in_the_run_reads_the_diagnosis_there_and_is_replaced(training_run: Path) -> None:
    without = len(report(training_run)["figures"])
    (training_run / "report" / "figures" / "old.svg").touch()
    (training_run / "diagnosis.json").write_text(json.dumps({"time": diagnosis()["time"]}))
    try:
        figures = report(training_run)["figures"]
    finally:
        (training_run / "diagnosis.json").unlink()
    assert len(figures) == without + 1
    assert {path.name for path in (training_run / "report/figures").iterdir()} == {f["file"][8:] for f in figures}


def test_a_folder_of_something_else_is_not_replaced(training_run: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.md").touch()
    with pytest.raises(FunnelcastError, match="not empty and has no report.json"):
        report(training_run, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.md"]


@pytest.mark.slow
def test_figures_that_would_make_the_page_too_large_are_linked(
    training_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "MOST_BYTES", 20_000)
    said = report(training_run, tmp_path / "report", diagnosis())
    found = Parsed((tmp_path / "report/report.html").read_text())
    linked = [link for link in found.links if link.startswith("figures/f") or link.endswith(".svg")]
    assert 0 < found.tags.count("svg") < len(said["figures"]) == found.tags.count("svg") + len(linked)
    assert all((tmp_path / "report" / link).is_file() for link in linked)
