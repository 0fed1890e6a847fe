"""A small share of `scripts/proof kills`."""

from pathlib import Path

import pytest

from proofs.kills import problems, run


@pytest.mark.slow
def test_a_killed_command_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    wrong = problems(run(tmp_path, small=True))
    assert not wrong, "\n".join(wrong)
