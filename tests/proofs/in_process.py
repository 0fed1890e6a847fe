"""Commands of proofs that compare models without a process for each; `memory` sees that costs are measured."""

from typing import Any

import pytest

from harness.calls import call
from harness.cost import Cost
from proofs import compared


def commands_in_this_process(patch: pytest.MonkeyPatch) -> None:
    """They come to the same, and cost nothing."""

    def run(*arguments: Any) -> Cost:
        answer = call(*arguments)
        assert answer.code == 0, answer
        return Cost(0.0, 0)

    patch.setattr(compared, "cost", run)
