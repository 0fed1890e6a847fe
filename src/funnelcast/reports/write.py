"""Writing a report.

RUN/report/report.html   the page: one file that needs no other
RUN/report/report.json   its numbers
RUN/report/report.md     its numbers as text
RUN/report/figures/      its figures as SVG
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from funnelcast.data.files import new_folder
from funnelcast.reports.content import Content, of_benchmark, of_training
from funnelcast.reports.data_sets import of_data_sets
from funnelcast.reports.markdown import markdown
from funnelcast.reports.page import page
from funnelcast.reports.run_folder import BenchmarkRun, BenchmarkRuns, TrainingRun, read_run


def report(
    run: Path | str, out: Path | str | None = None, diagnosis: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write the report of a benchmark, on one data set or several, or of a training run into a folder, RUN/report by
    default; returns what its `report.json` has.

    `diagnosis`: of a training run, or by model of a benchmark, instead of RUN/diagnosis.json. A report that stands
    there is replaced. Raises FunnelcastError.
    """
    run = Path(run)
    found = read_run(run, diagnosis)
    content = _content(found)
    said = as_dict(content)
    with new_folder(Path(out or run / "report"), replace=True, mark="report.json") as folder:
        (folder / "figures").mkdir()
        for picture in content.every_picture:
            (folder / picture.file).write_text(picture.standalone, encoding="utf-8")
        (folder / "report.html").write_text(page(content), encoding="utf-8")
        (folder / "report.md").write_text(markdown(content), encoding="utf-8")
        (folder / "report.json").write_text(json.dumps(said, indent=1, allow_nan=False), encoding="utf-8")
    return said


def _content(run: BenchmarkRun | BenchmarkRuns | TrainingRun) -> Content:
    if isinstance(run, BenchmarkRuns):
        return of_data_sets(run)
    return of_benchmark(run) if isinstance(run, BenchmarkRun) else of_training(run)


def as_dict(content: Content) -> dict[str, Any]:
    """For JSON."""
    return {
        "kind": content.kind,
        "title": content.title,
        "summary": content.summary,
        "protocol": dict(content.protocol),
        "headline": content.headline,
        "conclusions": [each._asdict() for each in content.conclusions],
        "results": content.results,
        "diagnoses": content.diagnoses,
        "settings": {model.name: model.settings for model in content.models},
        "figures": [{"file": p.file, "title": p.title, "caption": p.caption} for p in content.every_picture],
        "commands": list(content.commands),
        "files": content.files,
    }
