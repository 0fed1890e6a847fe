"""Shell completion, as a shell asks for it."""

import os
import subprocess

import pytest

from harness.calls import call
from harness.cost import COMMAND


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "offered"), [("funnelcast ev", "evaluate"), ("funnelcast serve --grpc", "--grpc-port")]
)
def test_bash_is_offered_verbs_and_options(words: str, offered: str) -> None:
    asks = {"_FUNNELCAST_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    answer = subprocess.run([COMMAND], env=os.environ | asks, capture_output=True, text=True, check=False)
    assert answer.stdout.split() == [offered], answer.stderr


def test_the_script_for_a_shell_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    assert "_FUNNELCAST_COMPLETE=complete_bash" in call("--show-completion", "bash").out
