"""What holds for every verb: help, exit codes, messages without traceback, JSON alone on stdout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
from threading import Event

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from funnelcast.cli import console
from funnelcast.cli.console import COMPILING, _Bars
from harness.calls import Answer, call
from harness.cost import COMMAND
from tests import tiny

VERBS = (
    ("demo",),
    ("prepare",),
    ("train",),
    ("evaluate",),
    ("compare",),
    ("doctor",),
    ("benchmark",),
    ("search",),
    ("report",),
    ("warm",),
    ("adapt",),
    ("predict",),
    ("replay",),
    ("datasets",),
    ("datasets", "generate"),
    ("datasets", "census-income"),
    ("datasets", "oulad"),
    ("datasets", "hotel"),
    ("datasets", "fbads"),
    ("datasets", "ml100k"),
)


def refused(*arguments: object) -> str:
    """What a call says that ends as a user's mistake."""
    answer = call(*arguments)
    assert (answer.code, answer.out, answer.trace, answer.warned) == (2, "", "", ()), answer
    return answer.err


def loads(answer: Answer) -> dict[str, object]:
    """The JSON on stdout, which must be all that was said, and JSON to the letter."""
    assert (answer.code, answer.err, answer.trace) == (0, "", ""), answer
    found: dict[str, object] = json.loads(answer.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    return found


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_help(verb: tuple[str, ...]) -> None:
    answer = call(*verb, "--help")
    assert answer.code == 0 and answer.trace == "" and "Usage: funnelcast " + " ".join(verb) in answer.out


def test_training_without_a_table() -> None:
    """The experiment has a default; the table has none."""
    assert "--data TABLE" in refused("train")


@pytest.mark.parametrize("verb", [verb for verb in VERBS[1:7] if verb != ("train",)], ids=" ".join)
def test_nothing_given(verb: tuple[str, ...]) -> None:
    answer = call(*verb)
    assert answer.code == 2 and answer.trace == ""
    assert "Usage: funnelcast " + " ".join(verb) in answer.out + answer.err


def test_an_unknown_verb_and_option() -> None:
    assert "trian" in refused("trian")
    assert "--sed" in refused("train", "a.toml", "--sed", 1)


def test_help_does_not_load_torch() -> None:
    code = (
        "import sys\nfrom funnelcast.cli.main import main\nsys.argv = ['funnelcast', '--help']\n"
        "try:\n    main()\nfinally:\n"
        "    print([m for m in ('torch', 'pyarrow', 'numpy', 'ibis', 'numba') if m in sys.modules], file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stderr.strip() == "[]" and "Usage: funnelcast" in run.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("prepare", "made/schema.toml", "--train", "made/log.parquet", "--out", "out"),
        ("train", "made/man.toml", "--data", "made/table", "--out", "out"),
        ("train", "made/man.toml", "--data", "made/table", "--out", "out", "--seeds", "2"),
        ("evaluate", "made/run/bundle", "made/table"),
        ("evaluate", "made/run/bundle", "made/table", "--part", "dev", "--by", "campaign"),
        ("compare", "made/predictions.parquet", "made/predictions.parquet"),
        ("predict", "made/run/bundle", "made/log.csv", "--out", "out.parquet"),
        ("datasets", "generate", "out", "--rows", "1000"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_json(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    (tmp_path / "made").symlink_to(made)
    monkeypatch.chdir(tmp_path)
    assert loads(call(*arguments, "--json"))


def test_our_own_mistakes_keep_their_traceback(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("funnelcast.experiments.evaluate.evaluate", broken)
    answer = call("evaluate", made / "run/bundle", made / "table")
    assert answer.code == 1 and "ZeroDivisionError" in answer.trace


def test_what_the_system_refuses_is_told_by_its_file(made: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = refused("predict", made / "run/bundle", made / "log.csv", "--out", tmp_path / "file/out.csv")
    assert str(tmp_path / "file") in said and said.startswith("error: ")


@pytest.mark.slow
def test_what_warm_compiles_a_later_process_finds(tmp_path: Path) -> None:
    """In a folder of its own, as an image's build makes it; another command on other data compiles nothing either."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "kernels")}

    def said(*arguments: str) -> str:
        command = [COMMAND, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment).stderr

    assert COMPILING in said("warm", "--out", "kernels")
    made = sorted(path.name for path in (tmp_path / "kernels").rglob("*.nbc"))
    assert len(made) > 100
    assert COMPILING not in said("warm", "--out", "kernels")
    tiny.write_table(tmp_path / "table")
    (tmp_path / "one.toml").write_text('base = "recommended"\nstages = [{epochs = 1}]\n')
    assert COMPILING not in said("train", "one.toml", "--data", "table", "--out", "run", "--no-baselines")
    assert sorted(path.name for path in (tmp_path / "kernels").rglob("*.nbc")) == made


def test_warm_says_that_a_folder_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    command = [COMMAND, "warm", "--out", str(tmp_path / "file" / "below")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "" and "cannot be written to; name another folder" in done.stderr


def test_compiling_is_said_once_above_all_stages_or_in_the_line_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_said", Event())
    written = StringIO()
    with Progress(TextColumn("{task.fields[note]}"), console=Console(file=written)) as bars:
        shown = _Bars(bars)
        shown.say_compiling()
        shown.say_compiling()
        assert written.getvalue().count(COMPILING) == 1 and not bars.tasks
        shown("read", 1, 10, "rows")
        shown.say_compiling()
        assert bars.tasks[0].fields["note"] == COMPILING
        shown("read", 2, 10, "rows")
        assert bars.tasks[0].fields["note"] == ""
    with Progress(TextColumn("{task.fields[note]}"), console=Console(file=written)) as bars:
        _Bars(bars).say_compiling()
    assert written.getvalue().count(COMPILING) == 1
