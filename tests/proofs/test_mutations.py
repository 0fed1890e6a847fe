"""A small share of `scripts/proof mutations`."""

from pathlib import Path

import pytest

from proofs.mutations import run


@pytest.mark.slow
def test_mutated_inputs_are_taken_or_refused_by_name(tmp_path: Path) -> None:
    outcomes = run(tmp_path, each=10)
    wrong = [f"{o.seed}, {o.mutant.what}: {o.problem}; it said: {o.answer.err}" for o in outcomes if o.problem]
    assert len(outcomes) == 90 and not wrong, "\n".join(wrong)
