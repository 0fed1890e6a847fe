"""A recorded pass finds what the pass itself would, to the bit."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from funnelcast.layers.tape import RecordingError, Tape, perform
from tests.layers.inputs import source

Operation = Callable[[Tensor, Tensor], Tensor]
OPERATIONS: dict[str, Operation] = {
    "one with a place for its result": lambda x, y: x @ y,
    "one of several results": lambda x, y: (x + y).max(0)[0],
    "one without such a place": lambda x, y: x.index_select(0, torch.argsort(y[0])),
    "a view": lambda x, y: (x * y).t()[1:],
    "in place": lambda x, y: (x * 2).add_(y).relu_(),
    "into zeros": lambda x, y: x.new_zeros(3, 3).add_(x).mul_(y),
    "into what was empty": lambda x, y: torch.empty_like(x).copy_(y),
    "joined": lambda x, y: torch.cat([x, torch.stack([y[0], x[1]])]),
    "of another type": lambda x, y: (x > y).to(torch.float32).sum(0),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_torchs_operations_are_played_on_what_is_there_now(operation: Operation) -> None:
    x, y = torch.randn(2, 3, 3, generator=source(2))
    tape = Tape()
    with tape.recording():
        found = operation(x, y)
    for seed in (3, 4):
        new = torch.randn(2, 3, 3, generator=source(seed))
        x.copy_(new[0])
        y.copy_(new[1])
        tape.play()
        assert torch.equal(found, operation(x, y))


def test_calls_are_played_in_their_order() -> None:
    x, seen = torch.zeros(2), []
    tape = Tape()
    with tape.recording():
        perform(lambda: seen.append(x.tolist()))
        x += 1
        perform(lambda: seen.append(x.tolist()))
    tape.play()
    assert seen == [[0, 0], [1, 1], [1, 1], [2, 2]]


@pytest.mark.parametrize("chosen", [lambda x: x.sum().item(), lambda x: x[x > 0], torch.rand_like])
def test_what_depends_on_numbers_or_chance_is_not_recordable(chosen: Callable[[Tensor], Any]) -> None:
    with pytest.raises(RecordingError), Tape().recording():
        chosen(torch.ones(2))


def test_nothing_is_recorded_after_an_error() -> None:
    tape = Tape()
    with pytest.raises(ValueError, match="own"), tape.recording():
        raise ValueError("own")
    perform(lambda: None)
    assert not tape.calls
