"""The bench of endurance: rates are of whole epochs, and what was measured is not measured again."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench import endurance


def test_rates_are_from_an_epochs_first_batch_to_its_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not of what is done between epochs."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "process_time", lambda: 2 * now[0])
    clock = endurance.Clock()
    for epoch, seconds in (("general, epoch 1", 1.0), ("general, epoch 2", 4.0)):
        for done in (10, 20, 30, 30):
            clock(epoch, done, 30, "rows")
            now[0] += seconds if done < 30 else 100.0
    assert clock.rates() == [(10.0, 5.0), (2.5, 1.25)]


def test_runs_that_are_there_are_shown_and_others_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rates, calls = {"man": [(1000.0, 1000.0), (960.0, 900.0)], "ple": [(1000.0, 1000.0), (300.0, 940.0)]}, list[str]()

    def measure(model: str, rows: int, l2: float, args: Any) -> Any:
        if model not in rates:
            raise KeyboardInterrupt
        calls.append(model)
        return rates[model]

    def run(*models: str) -> int:
        arguments = ["--rows", "100", "--l2", "0", "--out", str(tmp_path / "out/cells.json")]
        monkeypatch.setattr(sys, "argv", ["endurance", "--models", *models, *arguments])
        return endurance.main()

    monkeypatch.setattr(endurance, "_of_process", measure)
    with pytest.raises(KeyboardInterrupt):
        run("man", "esmm")
    assert run("man") == 0 and calls == ["man"]
    assert run("man", "ple") == 1 and calls == ["man", "ple"]
    assert "ple    100   0   30%                 94%" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "out/cells.json").read_text())) == 2
