"""README and docs: their code and commands run, their settings exist, their files are there."""

from __future__ import annotations

import dataclasses
import math
import re
import shlex
import shutil
import sys
import tomllib
from ast import literal_eval
from pathlib import Path
from types import ModuleType

import pytest
import torch
from typer.testing import CliRunner

from docs.generate import FOLDER, PAGES
from funnelcast.benchmarks.search.config import Search
from funnelcast.cli.main import app
from funnelcast.experiments.experiment import Experiment
from funnelcast.ops import Reach, dispatch
from funnelcast.schema.dataset import Schema
from funnelcast.training.callback import Callback, EpochEnd, StageBegin, StepEnd, TrainBegin, TrainEnd
from harness.server import serving

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCS = sorted((ROOT / "docs").rglob("*.md"))


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def run(text: str) -> None:
    """Follow a page from top to bottom: its Python runs, its schema is written, its commands succeed."""
    for language, block in re.findall(r"^```(python|toml|bash)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        if language == "python":
            exec(compile(block, "page", "exec"), {})
        elif language == "toml":
            Path("schema.toml").write_text(block)
        else:
            for command in block.strip().splitlines():
                call(command)


def call(command: str) -> None:
    program, *arguments = shlex.split(command)
    assert program == "funnelcast"
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, (command, result.output, result.exception)


@pytest.mark.slow
def test_the_tutorials_and_the_guide_to_adapting_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run(page("tutorials/own-log.md"))
    run(page("how-to/adapt.md"))
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("p_click", "p_conversion", "p_conversion_given_click"))
    (client,) = blocks(page("tutorials/serve.md"), "python")
    run(page("tutorials/serve.md").replace(client, ""))
    shutil.move("calibrated", "served")
    with serving(Path("served")) as server:
        exec(compile(client.replace("localhost:8080", server.url), "page", "exec"), {})
    third, fourth = map(literal_eval, capsys.readouterr().out.splitlines()[-2:])
    assert third["p_click"] < fourth["p_click"] and "p_conversion_given_click" in fourth


@pytest.mark.parametrize("language", ["toml", "bash", "python"])
def test_the_readme_has_the_code_of_the_tutorial(language: str) -> None:
    """Which runs: see above."""
    assert blocks(README, language) == blocks(page("tutorials/own-log.md"), language)[-1:]


@pytest.mark.slow
def test_the_guide_to_preparing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(page("how-to/prepare.md"), "python")
    exec(compile(code, "prepare.md", "exec"), {})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["scikit-learn", "callbacks"])
def test_the_code_of_a_guide_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(page(f"how-to/{name}.md"), "python")
    exec(compile(code, name, "exec"), {"__name__": name})
    assert {"scikit-learn": "p_conversion_given_click", "callbacks": "general 0 0."}[name] in capsys.readouterr().out


def test_the_guide_to_callbacks_names_every_method_and_field() -> None:
    rows = [line.split(" | ") for line in page("how-to/callbacks.md").splitlines() if line.startswith("| `on_")]
    assert [row[0].strip("| `") for row in rows] == [name for name in vars(Callback) if name.startswith("on_")]
    for row, event in zip(rows, (TrainBegin, StageBegin, StepEnd, EpochEnd, TrainEnd), strict=False):
        assert {field.name for field in dataclasses.fields(event)} <= set(re.findall(r"`(\w+)`", row[2]))


@pytest.mark.slow
def test_the_model_of_the_guide_keeps_its_promises_and_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    text = page("how-to/add-a-model.md")
    recipe, suite = blocks(text, "python")
    module = ModuleType("funnelcast.models.staircase")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(recipe, "staircase.py", "exec"), vars(module))
    exec(compile(suite, "suite.py", "exec"), dict(vars(module)))
    registry = ModuleType("registry")
    monkeypatch.setitem(sys.modules, "registry", registry)
    exec(compile(patched(blocks(text, "diff")[0]), "registry.py", "exec"), vars(registry))
    assert registry.recipe_of({"name": "staircase", "experts_per_level": 2}).experts_per_level == 2


@pytest.mark.parametrize("name", ["loss", "backend"])
def test_the_guide_to_adding_one_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend's holds its kernel against the reference; the loss's penalty is that of a probability of 1/2."""
    monkeypatch.setattr(dispatch, "BACKENDS", [*dispatch.BACKENDS])
    module = ModuleType("guide")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for code in blocks(page(f"how-to/add-a-{name}.md"), "python"):
        exec(compile(code, f"add-a-{name}.md", "exec"), vars(module))
    if name == "loss":
        halves = module.penalty(Reach(*[torch.full((8, 2), -math.log(2))] * 2), (-1, 0), None)
        assert halves.item() == pytest.approx(-0.1 * 16 * math.log(2))
    else:
        assert dispatch.BACKENDS[0].kernels["linear"] is module.linear


def patched(diff: str) -> str:
    """The registry with the lines of a guide: an import on its own, and a line in place of another."""
    added, old, new = (line[1:] for line in diff.splitlines())
    code = (ROOT / "src/funnelcast/registry.py").read_text()
    assert old in code
    return code.replace(old, new).replace("from pydantic import Field", f"from pydantic import Field\n{added}")


def test_the_readme_is_short_and_names_scripts_and_pages_that_exist() -> None:
    assert len(README.splitlines()) < 120
    for name in re.findall(r"scripts/\w+", README):
        assert (ROOT / name).is_file(), name
    for target in re.findall(r"\]\(((?!http)[^)]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.stem)
def test_settings_in_docs_are_valid(path: Path) -> None:
    for block in blocks(path.read_text(), "toml"):
        declared = tomllib.loads(block)
        kind = Schema if "features" in declared else Search if "models" in declared else Experiment
        kind.from_dict(declared)


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.stem)
def test_docs_name_scripts_files_and_folders_that_exist(path: Path) -> None:
    text = path.read_text()
    for name in re.findall(r"`((?:scripts|experiments|bench|tests)/[\w./-]+)", text):
        assert (ROOT / name).exists(), name


def test_shipped_experiments_are_valid_and_short() -> None:
    paths = [path for path in ROOT.glob("experiments/**/*.toml") if path.parent.name not in ("tables", "search")]
    paths += [*ROOT.glob("src/funnelcast/experiments/presets/*.toml")]
    for path in paths:
        Experiment.from_toml(path)
        assert len(path.read_text().splitlines()) <= 25


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_up_to_date(name: str) -> None:
    assert (FOLDER / name).read_text() == PAGES[name](), "run scripts/docs --write"
