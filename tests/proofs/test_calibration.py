"""What `scripts/proof calibration` shows of a bundle, and that a calibration which harms does not pass."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from funnelcast.data.table import Table
from funnelcast.evaluation.metrics import measure
from funnelcast.evaluation.score import score
from funnelcast.experiments.run import train
from funnelcast.serving.bundle import Bundle
from proofs.calibration import calibration, measured
from tests.experiments import recommended
from tests.experiments.test_calibrate import SHIFTED, with_maps
from tests.proofs.in_process import commands_in_this_process


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Table]:
    folder = tmp_path_factory.mktemp("proof") / "log"
    table = recommended.write_table(folder, dev=400, test=800)
    return train(recommended.experiment(stacking=None), table, folder / "run", baselines=False).bundle, table


def test_figures_are_those_of_the_test_rows_before_and_after(made: tuple[Bundle, Table]) -> None:
    bundle, table = made
    found = measured(with_maps(bundle), table)
    assert [each["shown"][0] for each in found] == ["click", "conversion", "conversion_given_click"]
    assert [each["shown"][2] for each in found] == ["affine", "", "affine"]
    rows = table.part("test")
    assert rows.labels is not None
    reach = score(bundle.model, rows), score(bundle.model, rows, calibration=with_maps(bundle).calibration)
    losses = [measure(rows.labels[:, 0], p[:, 0], q[:, 0], rows.weight).log_loss for p, q in reach]
    assert float(found[0]["shown"][3].split()[0]) == pytest.approx(losses[1] - losses[0], abs=1e-5)


def test_what_harms_fails_and_what_changes_nothing_holds(made: tuple[Bundle, Table]) -> None:
    bundle, table = made
    assert not measured(with_maps(bundle, (replace(SHIFTED[0], y=(3.0,)), SHIFTED[1])), table)[0]["holds"]
    plain = measured(replace(bundle, calibration=None), table)
    assert all(each["holds"] and each["shown"][3].startswith("+0.00000") for each in plain)
    assert np.allclose([float(each["shown"][4]) - float(each["shown"][5]) for each in plain], 0)


@pytest.mark.slow
def test_a_small_share_of_the_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    commands_in_this_process(monkeypatch)
    assert calibration(small=True, folder=tmp_path)
    assert "distinction_given_passed" in capfd.readouterr().out
