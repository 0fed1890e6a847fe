"""The log's lines, byte by byte what programs read; what is told on the way; and cutting it."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from funnelcast.data.columns import Columns
from funnelcast.data.loader import Loader
from funnelcast.evaluation.funnel import FunnelMetrics, measure_funnel
from funnelcast.evaluation.health import DEAD, Finding
from funnelcast.schema.funnel import Funnel
from funnelcast.training.log import EpochLog
from funnelcast.training.progress import Progress
from funnelcast.training.stages import Stage

FUNNEL = Funnel.parse("click; conversion after click")
LOADER = Loader.of(Columns(np.zeros((10, 1), np.int32), np.zeros((10, 0), np.float32)), batch_size=4, seed=0)
WEIGHTS = torch.tensor([0.5, 0.125])
Calls = list[tuple[str, int, int, str, str]]


def measured(conversions: int = 1) -> FunnelMetrics:
    """Of four dev rows with two clicks; conversions are told from the rest without a fault."""
    labels = np.array([[1, conversions > 0], [1, 0], [0, 0], [0, 0]], np.uint8)
    p = np.array([[0.9, 0.8], [0.2, 0.1], [0.3, 0.1], [0.1, 0.05]])
    return measure_funnel(FUNNEL, labels, np.log(p), np.log1p(-p))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Its one number is the time."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


@pytest.fixture
def calls() -> Calls:
    return []


@pytest.fixture
def log(tmp_path: Path, calls: Calls) -> EpochLog:
    made = EpochLog(tmp_path / "run/log.jsonl", FUNNEL.names, lambda *call: calls.append(call))
    made.cut(0)
    return made


def lines(log: EpochLog) -> list[dict[str, Any]]:
    text = log.file.read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_a_line(log: EpochLog, clock: list[float]) -> None:
    at = Progress(epoch=1, batch=0, loss_sum=[5.0, 2.5], weight_sum=[10.0, 10.0])
    log.begin(Stage(name="top", train="top"), LOADER, at)
    clock[0] += 0.25
    at.batch = 3
    metrics = measured()
    assert log.write(at, WEIGHTS, metrics, log.speed(at)) == log.file.stat().st_size
    expected = {
        "stage": "top",
        "epoch": 1,
        "trained": ["gates", "attention", "towers"],
        "rows": 10,
        "loss": {"click": 0.5, "conversion": 0.25},
        "task_weights": {"click": 0.5, "conversion": 0.125},
        "dev": {name: m.as_dict() for name, m in metrics.outputs.items()},
        "is_best": True,
        "seconds": 0.25,
        "rows_per_s": 40,
    }
    assert lines(log) == [expected] and list(lines(log)[0]) == list(expected)
    at.waited = 1
    assert log.write(at, WEIGHTS, metrics, log.speed(at)) == log.file.stat().st_size
    assert [line["is_best"] for line in lines(log)] == [True, False]


def test_what_is_told(log: EpochLog, clock: list[float], calls: Calls) -> None:
    at = Progress(loss_sum=[2.0, 1.0], weight_sum=[4.0, 4.0], batch=0)
    log.begin(Stage(), LOADER, at)
    clock[0] += 0.002
    at.batch = 1
    log.report(at, WEIGHTS)
    at.batch, at.loss_sum, at.weight_sum = 3, [5.0, 2.5], [10.0, 10.0]
    log.report(at, WEIGHTS)
    log.write(at, WEIGHTS, measured(), log.speed(at))
    at.waited = 2
    log.write(at, WEIGHTS, measured(conversions=0), log.speed(at))
    assert [call[:4] for call in calls] == [("general, epoch 1", rows, 10, "rows") for rows in (4, 10, 10, 10)]
    assert [call[4] for call in calls] == [
        "2,000 rows/s, loss 0.5000 0.2500, weights 0.500 0.125",
        "5,000 rows/s, loss 0.5000 0.2500, weights 0.500 0.125",
        "dev AUC: click 0.7500, conversion 1.0000, conversion_given_click 1.0000 (best)",
        "dev AUC: click 0.7500",
    ]


@pytest.mark.parametrize(
    ("rows", "times", "line"),
    [
        (200, 3, "; click is observed 3 times as often as predicted"),
        (200, 0.4, "; click is observed 0.4 times as often as predicted"),
        (200, 1.9, ""),
        (200, 0.51, ""),
        (196, 3, ""),
    ],
)
def test_a_rate_that_is_predicted_wrongly_is_told(
    log: EpochLog, calls: Calls, rows: int, times: float, line: str
) -> None:
    """With 50 clicks or more, a quarter of the rows."""
    labels = np.array([[1], [0], [0], [0]] * 50, np.uint8)[:rows]
    p = np.full(labels.shape, labels.mean() / times)
    metrics = measure_funnel(Funnel.parse("click"), labels, np.log(p), np.log1p(-p))
    at = Progress(loss_sum=[2.0, 1.0], weight_sum=[4.0, 4.0])
    log.begin(Stage(), LOADER, at)
    log.write(at, WEIGHTS, metrics, {})
    assert calls[-1][4] == f"dev AUC: click 0.5000 (best){line}"


def test_a_finding_is_told_once(log: EpochLog, calls: Calls) -> None:
    """The log has it each time, with what to do."""
    dead = Finding("click", ("constant",), "click: one prediction for all rows (0.1)")
    worse = Finding("click", ("auc",), "click: AUC 0.4 is below chance")
    at = Progress(loss_sum=[2.0, 1.0], weight_sum=[4.0, 4.0])
    log.begin(Stage(), LOADER, at)
    for findings in ([], [dead], [dead], [worse], [dead, worse]):
        log.write(at, WEIGHTS, measured(), {}, findings)
    warnings = [call[4].split("\n")[1:] for call in calls]
    assert warnings == [
        [],
        [f"  WARNING: {dead.said} (what to do: log.jsonl)"],
        [],
        [f"  WARNING: {worse.said} (what to do: log.jsonl)"],
        [],
    ]
    logged = [line.get("warnings", []) for line in lines(log)]
    assert logged == [[], [dead.text], [dead.text], [worse.text], [dead.text, worse.text]]
    assert dead.text == f"{dead.said}: {DEAD}"


def test_an_auc_of_one_class_is_null(log: EpochLog) -> None:
    at = Progress(loss_sum=[5.0, 2.5], weight_sum=[10.0, 10.0])
    log.begin(Stage(), LOADER, at)
    log.write(at, WEIGHTS, measured(conversions=0), {})
    dev = lines(log)[0]["dev"]
    assert dev["conversion"]["auc"]["estimate"] is None and dev["click"]["auc"]["estimate"] == 0.75


def test_a_resumed_epoch_took_what_all_its_processes_took(log: EpochLog, clock: list[float]) -> None:
    at = Progress(batch=2, loss_sum=[4.0, 2.0], weight_sum=[8.0, 8.0], seconds=2.0)
    log.begin(Stage(), LOADER, at)
    clock[0] += 0.5
    assert log.seconds == 2.5
    at.batch = 3
    assert log.speed(at) == {"seconds": 2.5, "rows_per_s": 4}


def train_epoch(log: EpochLog, clock: list[float], seconds: float, stage: str = "general", batch: int = 0) -> Any:
    """The line of an epoch of 10 rows that takes so long, from a batch on."""
    at = Progress(batch=batch, loss_sum=[5.0, 2.5], weight_sum=[10.0, 10.0], seconds=seconds / 2 if batch else 0.0)
    log.begin(Stage(name=stage), LOADER, at)
    clock[0] += seconds - at.seconds
    at.batch = 3
    log.write(at, WEIGHTS, measured(), log.speed(at))
    return lines(log)[-1]


def test_an_epoch_at_under_half_of_the_firsts_rate_is_a_warning(
    log: EpochLog, clock: list[float], calls: Calls
) -> None:
    """In comparison with a whole one of the stage and the process, and no noise of a few seconds."""
    shares = [train_epoch(log, clock, seconds).get("share_of_first_rate") for seconds in (4.0, 7.9, 8.1, 16.0)]
    assert shares == [None, None, 0.494, 0.25]
    warned = ["warning" in note for *_, note in calls]
    assert warned == [False, False, True, True]
    assert calls[-1][4].endswith("(best); warning: 1 rows/s, 25% of the first epoch's rate")
    assert "share_of_first_rate" not in train_epoch(log, clock, 30.0, "top")
    assert "share_of_first_rate" in train_epoch(log, clock, 61.0, "top")


def test_short_epochs_and_resumed_ones_are_not_compared(log: EpochLog, clock: list[float]) -> None:
    epochs = ((0.5, 2), (20.0, 0), (90.0, 1))
    found = [train_epoch(log, clock, seconds, batch=batch) for seconds, batch in epochs]
    assert not any("share_of_first_rate" in line for line in found)
    assert train_epoch(log, clock, 41.0)["share_of_first_rate"] == 0.488
    fresh = EpochLog(log.file, FUNNEL.names, lambda *_: None)
    assert "share_of_first_rate" not in train_epoch(fresh, clock, 0.5)
    assert "share_of_first_rate" not in train_epoch(fresh, clock, 4.9)


def test_a_cut_drops_what_came_after_the_checkpoint(log: EpochLog) -> None:
    log.file.write_bytes(b"one\ntwo\n")
    log.cut(4)
    assert log.file.read_bytes() == b"one\n"
    log.cut(4)
    assert log.file.read_bytes() == b"one\n"


def test_a_log_that_was_deleted_begins_anew(log: EpochLog) -> None:
    log.file.unlink()
    log.cut(4)
    assert log.file.read_bytes() == b""
