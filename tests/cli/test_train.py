"""`funnelcast train`: seeds, going on, warm start, and what it refuses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from funnelcast.serving.predictor import load
from harness.calls import call
from tests.cli.conftest import EXPERIMENT, SCHEMA
from tests.cli.test_main import loads, refused


def written(folder: Path, text: str) -> Path:
    (folder / "a.toml").write_text(text)
    return folder / "a.toml"


def test_a_summary_of_seeds(made: Path, tmp_path: Path) -> None:
    summary = loads(
        call("train", made / "man.toml", "--data", made / "table", "--seeds", 2, "--out", tmp_path, "--json")
    )
    assert summary["seeds"] == [0, 1] and summary == json.loads((tmp_path / "summary.json").read_text())
    runs = [json.loads((tmp_path / f"seed-{seed}/results.json").read_text()) for seed in (0, 1)]
    found = [run["test"]["click"]["auc"]["estimate"] for run in runs]
    assert summary["mean"]["test"]["click"]["auc"]["mean"] == pytest.approx(sum(found) / 2)  # type: ignore[index]


def test_one_seed_has_no_spread(made: Path, tmp_path: Path) -> None:
    arguments = ("train", made / "man.toml", "--data", made / "table", "--out", tmp_path / "run")
    shown, summary = call(*arguments), loads(call(*arguments, "--json"))
    assert shown.code == 0 and "±" not in shown.out and "buy_given_click" in shown.out
    lines = [line.strip().split("  ")[0] for line in shown.out.splitlines()]
    baselines = ["constant rate", "sum of rate logits", "logistic regression", "LightGBM"]
    assert [line for line in lines if line in baselines] == 6 * baselines  # three outputs on two parts
    assert sum(line in ("best column (user)", "best column (age)") for line in lines) == 6
    assert "NOT ABOVE A BASELINE: seed 0, test: click: AUC is" in shown.out
    without = call(*arguments[:-1], tmp_path / "without", "--no-baselines")
    assert without.code == 0 and "rate logits" not in without.out and "NOT ABOVE" not in without.out
    assert summary["mean"]["dev"]["click"]["auc"]["std"] is None  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epochs = 3", "epochs: is not a setting"),
        ("sed = 3", "sed: is not a setting; did you mean 'seed'?"),
        ('model = {name = "mann"}', "'mann' is no model; did you mean 'man'?"),
        ("model = {experts = 3}", "has no name; known: aitm, esmm"),
        ("model = {name = [1]}", "model"),
        ('model = {name = "man", attention = "gate"}', "'gate' is not one of gated, tower_top, none; did you mean"),
        ('model = {name = "man", tower = [8]}', "tower_dropout has 3 rates for 1 layers"),
        ('model = {name = "man", expert = [0]}', "model.expert.0: 0 is not allowed"),
        (
            'model = {name = "man", embedding_dims = {usr = 3}}',
            "embedding_dims.usr: is no vocabulary; did you mean 'user'?",
        ),
        ('stages = [{metric = "auc_clik"}]', "'auc_clik' is no metric of this funnel; did you mean 'auc_click'?"),
        ("workers = 0", "workers"),
        ("seed = -1", "seed: -1 is not allowed: input should be greater than or equal to 0; give 0 or more"),
        ("[stages]\nepochs = 2", "write [[stages]]"),
        ('model = "man"', 'write model = {name = "man"}'),
        ('stages = [{train = "experts"}]', 'write ["experts"]'),
        ("seed = 1.5", "seed: 1.5 is not allowed"),
        ("[[[", "is not valid TOML"),
    ],
)
def test_settings(made: Path, tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    message = refused("train", path, "--data", made / "table", "--out", tmp_path / "run")
    assert said in message and "a.toml" in message
    assert not (tmp_path / "run").exists()


def test_all_faults_at_once(made: Path, tmp_path: Path) -> None:
    path = written(tmp_path, "sed = 1\nworkers = 'many'\n[optimizer]\nclip = -1")
    message = refused("train", path, "--data", made / "table", "--out", tmp_path / "run")
    assert "3 faults" in message and all(name in message for name in ("sed", "workers", "optimizer.clip"))


def test_folders(made: Path, tmp_path: Path) -> None:
    man = made / "man.toml"
    assert "names no data" in refused("train", man, "--out", tmp_path / "run")
    assert "no prepared table" in refused("train", man, "--data", made, "--out", tmp_path / "run")
    assert "is not a folder" in refused("train", man, "--data", tmp_path / "none", "--out", tmp_path / "run")
    assert "does not exist" in refused("train", tmp_path / "none.toml", "--data", made / "table")
    assert "is a directory" in refused("train", tmp_path, "--data", made / "table")
    assert "did you mean 'recommended'?" in refused("train", "recomended", "--data", made / "table")
    assert "did you mean 'man.toml'?" in refused("train", made / "mann.toml", "--data", made / "table")
    assert "schema.toml is a file; choose a folder" in refused(
        "train", man, "--data", made / "table", "--out", made / "schema.toml"
    )
    said = refused("train", man, "--data", made / "table", "--init", made / "run", "--out", tmp_path / "run")
    assert "a run's bundle is RUN/bundle" in said
    assert not (tmp_path / "run").exists()


def test_another_experiment_does_not_go_on(made: Path, tmp_path: Path) -> None:
    run = ("--data", made / "table", "--out", tmp_path / "run")
    assert call("train", made / "man.toml", *run).code == 0
    said = refused("train", written(tmp_path, EXPERIMENT + "seed = 5"), *run)
    assert "holds a run of another experiment: seed is 0 there, 5 here; choose another folder with --out" in said
    (tmp_path / "run/experiment.json").write_text("{")
    assert "experiment.json is damaged" in refused("train", made / "man.toml", *run)


def test_a_damaged_checkpoint_and_result(made: Path, tmp_path: Path) -> None:
    run = ("train", made / "man.toml", "--data", made / "table", "--out", tmp_path / "run")
    assert call(*run).code == 0
    (tmp_path / "run/results.json").write_text("{")
    assert "results.json is damaged" in refused(*run)
    (tmp_path / "run/results.json").unlink()
    (tmp_path / "run/checkpoint").mkdir()
    (tmp_path / "run/checkpoint/progress.json").write_text("{")
    assert f"the checkpoint {tmp_path / 'run/checkpoint'} is damaged" in refused(*run)


def test_a_run_that_failed_at_once_leaves_its_folder_free(made: Path, tmp_path: Path) -> None:
    run = ("--data", made / "table", "--out", tmp_path / "run")
    fast = written(tmp_path, EXPERIMENT + "[loss]\nweighting = 'uncertainty'\nlearning_rate = 1e30\nclamp = 0")
    assert "diverged" in refused("train", fast, *run, "--json")
    assert call("train", made / "man.toml", *run).code == 0


def test_a_finished_run_is_not_trained_again(made: Path, tmp_path: Path) -> None:
    run = ("train", made / "man.toml", "--data", made / "table", "--out", tmp_path / "run")
    first = call(*run)
    before = (tmp_path / "run/bundle/weights.safetensors").stat()
    second = call(*run)
    assert second.out == first.out and second.err == ""
    assert (tmp_path / "run/bundle/weights.safetensors").stat() == before


def test_a_warm_start(made: Path, tmp_path: Path) -> None:
    run = ("train", made / "man.toml", "--data", made / "table", "--init", made / "run/bundle")
    assert call(*run, "--out", tmp_path / "run").code == 0
    other = written(tmp_path, 'model = {name = "man", expert = [8]}')
    said = refused("train", other, *run[2:], "--out", tmp_path / "other")
    assert "the bundle holds another model" in said


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_and_the_same_command_goes_on(made: Path, tmp_path: Path) -> None:
    """And the result is that of the run that nobody stopped."""
    path = written(tmp_path, EXPERIMENT.replace("epochs = 2", "epochs = 15, patience = 15"))
    command = [sys.executable, "-c", "from funnelcast.cli.main import main; main()", "train", str(path)]
    command += ["--data", str(made / "table"), "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while not (tmp_path / "run/checkpoint").exists() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 1, said
    assert "Traceback" not in said and "the same command goes on where it was" in said
    assert (tmp_path / "run/checkpoint").is_dir() and not (tmp_path / "run/results.json").exists()
    assert call("train", path, "--data", made / "table", "--out", tmp_path / "run").code == 0
    assert call("train", path, "--data", made / "table", "--out", tmp_path / "whole").code == 0
    for name in ("results.json", "bundle/weights.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_lists_are_read_from_the_log_to_the_prediction(tmp_path: Path, made: Path) -> None:
    log = pq.read_table(made / "log.parquet")
    tags = [["a", "b"] if click else ["b", "c"] for click in log["click"].to_pylist()]
    pq.write_table(log.append_column("tags", pa.array(tags)), tmp_path / "log.parquet")
    (tmp_path / "s.toml").write_text(SCHEMA + 'tags = "multi"\n')
    assert call("prepare", tmp_path / "s.toml", "--train", tmp_path / "log.parquet", "--out", tmp_path / "t").code == 0
    eager = EXPERIMENT.replace("epochs = 2", "epochs = 10").replace("64}", "64, learning_rate = 0.02}")
    assert call("train", written(tmp_path, eager), "--data", tmp_path / "t", "--out", tmp_path / "run").code == 0
    rows = log.take([0, 0, 0]).append_column("tags", pa.array([["a", "b"], ["b", "c"], []]))
    clicked, other, empty = load(tmp_path / "run/bundle").predict(rows)["p_click"].to_pylist()
    assert clicked > empty > other
