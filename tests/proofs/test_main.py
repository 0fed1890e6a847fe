"""A small share of the proofs that train; slow. Those of kills, mutations, few-shot,
calibration and package have files of their own."""

import pytest

from proofs.__main__ import PROOFS
from tests.proofs.in_process import commands_in_this_process

ELSEWHERE = {"kills", "mutations", "few-shot", "calibration", "package"}
ON_REAL_DATA = {"census"}
"""Its networks are trained by other tests, on the simulator."""


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(PROOFS) - ELSEWHERE - ON_REAL_DATA))
def test_a_small_share_runs(name: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    commands_in_this_process(monkeypatch)
    assert PROOFS[name](small=True)
    assert len(capfd.readouterr().out.splitlines()) > 2
