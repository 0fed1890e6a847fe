"""Reports that several tests look at; nothing in them may be changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from funnelcast.reports.write import report
from tests.reports.runs import ODD, diagnosis, write_benchmark, write_training


@pytest.fixture(scope="session")
def benchmark_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_benchmark(tmp_path_factory.mktemp("benchmark"))


@pytest.fixture(scope="session")
def training_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training(tmp_path_factory.mktemp("training"))


@pytest.fixture(scope="session")
def benchmark_report(benchmark_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports") / "benchmark"
    report(benchmark_run, folder, {ODD: diagnosis(), "bottom": {"time": diagnosis()["time"]}})
    return folder


@pytest.fixture(scope="session")
def training_report(training_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports") / "training"
    report(training_run, folder, diagnosis())
    return folder
