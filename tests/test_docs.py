"""README and guides: their code and commands run, their settings exist, their files are there."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from funnelcast.benchmarks.search.config import Search
from funnelcast.cli.main import app
from funnelcast.experiments.experiment import Experiment
from funnelcast.reference import reference
from funnelcast.schema.dataset import Schema

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
GUIDES = sorted((ROOT / "docs" / "guide").glob("*.md"))


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def write_log(path: Path, rows: int = 2500) -> None:
    """A log with the columns that the README's schema names."""
    rng = np.random.default_rng(0)
    item = rng.integers(0, 40, rows)
    click = rng.random(rows) < 0.1 + 0.4 * (item % 4 == 0)
    conversion = click & (rng.random(rows) < 0.3)
    columns: dict[str, Any] = {"user": rng.integers(0, 300, rows), "item": item, "hour": rng.integers(0, 24, rows)}
    columns |= {"price": rng.gamma(2.0, 10.0, rows), "campaign": item // 8, "time": np.arange(rows)}
    pq.write_table(pa.table({**columns, "click": click.astype(int), "conversion": conversion.astype(int)}), path)


def run(text: str, name: str) -> None:
    """The commands of a page, then its Python."""
    (commands,), (code,) = blocks(text, "bash"), blocks(text, "python")
    for command in commands.strip().splitlines():
        program, *arguments = shlex.split(command)
        assert program == "funnelcast"
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, (command, result.output, result.exception)
    exec(compile(code, name, "exec"), {})


@pytest.mark.slow
def test_the_readme_and_the_guide_to_adapting_run_on_a_log_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_log(Path("log.parquet"))
    (schema,) = blocks(README, "toml")
    Path("schema.toml").write_text(schema)
    run(README, "README.md")
    run((ROOT / "docs/guide/adapting.md").read_text(), "adapting.md")
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("p_click", "p_conversion", "p_conversion_given_click"))


def test_the_guide_to_your_data_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = blocks((ROOT / "docs/guide/your-data.md").read_text(), "python")
    exec(compile(code, "your-data.md", "exec"), {})


def test_the_readme_is_short_and_names_scripts_and_guides_that_exist() -> None:
    assert len(README.splitlines()) < 120
    for name in re.findall(r"scripts/\w+", README):
        assert (ROOT / name).is_file(), name
    for target in re.findall(r"\]\(((?!http)[^)]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_settings_in_guides_are_valid(guide: Path) -> None:
    for block in blocks(guide.read_text(), "toml"):
        declared = tomllib.loads(block)
        kind = Schema if "features" in declared else Search if "models" in declared else Experiment
        kind.from_dict(declared)


def test_shipped_experiments_are_valid_and_short() -> None:
    paths = [path for path in ROOT.glob("experiments/**/*.toml") if path.parent.name not in ("tables", "search")]
    paths += [*ROOT.glob("src/funnelcast/experiments/presets/*.toml")]
    for path in paths:
        Experiment.from_toml(path)
        assert len(path.read_text().splitlines()) <= 25


def test_the_settings_page_is_made_from_the_code() -> None:
    assert (ROOT / "docs/guide/settings.md").read_text() == reference()
