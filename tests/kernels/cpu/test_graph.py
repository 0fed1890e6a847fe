"""Capture and replay: a captured function returns what the function itself would, to the bit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from funnelcast import ops
from funnelcast.kernels.cpu import graph as module
from funnelcast.kernels.cpu.graph import KINDS, Captured, CaptureError, Graph, launch
from tests.layers.inputs import source
from tests.layers.reference import draw

CPU = torch.device("cpu")
Operation = Callable[[Tensor, Tensor], Any]


def gradient(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """Of a product and a sum, by both."""
    leaves = [each.detach().requires_grad_() for each in (x, y)]
    return torch.autograd.grad(((leaves[0] @ leaves[1]).relu() * leaves[0]).sum(), leaves)


OPERATIONS: dict[str, Operation] = {
    "one with an argument for its result": lambda x, y: x @ y,
    "one of several results": lambda x, y: (x + y).max(0)[0],
    "one without such an argument": lambda x, y: x.index_select(0, torch.argsort(y[0])),
    "a view": lambda x, y: (x * y).t()[1:],
    "a view that is detached": lambda x, y: (x * y).detach()[0].view(-1),
    "in place": lambda x, y: (x * 2).add_(y).relu_(),
    "a view in place": lambda x, y: (x + y).t_().mul(x),
    "into zeros": lambda x, y: x.new_zeros(3, 3).add_(x).mul_(y),
    "into ones": lambda x, y: torch.ones_like(x).add_(x).mul_(torch.ones(3)),
    "into what was empty": lambda x, y: torch.empty_like(x).copy_(y),
    "joined": lambda x, y: torch.cat([x, torch.stack([y[0], x[1]])]),
    "of another type": lambda x, y: (x > y).to(torch.float32).sum(0),
    "a gradient": gradient,
    "no operation": lambda x, y: x,
}


def pair(seed: int) -> tuple[Tensor, Tensor]:
    x, y = torch.randn(2, 3, 3, generator=source(seed))
    return x, y


def leaves(found: Any) -> list[Tensor]:
    return [found] if isinstance(found, Tensor) else list(found)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_torchs_operations_are_replayed_on_other_inputs(operation: Operation) -> None:
    captured = Graph(lambda inputs: operation(*inputs), pair(2))
    assert all(map(torch.equal, leaves(captured.outputs), leaves(operation(*pair(2)))))
    for seed in (3, 4):
        captured.replay(pair(seed))
        assert all(map(torch.equal, leaves(captured.outputs), leaves(operation(*pair(seed)))))


@pytest.mark.parametrize("operation", ["in place", "a view in place"])
def test_inputs_stay_as_they_are(operation: str) -> None:
    inputs, kept = pair(2), pair(2)
    Graph(lambda each: OPERATIONS[operation](*each), inputs).replay(inputs)
    assert all(map(torch.equal, inputs, kept))


def test_launches_are_replayed_in_their_order() -> None:
    seen = list[list[float]]()

    def function(x: Tensor) -> Tensor:
        launch(lambda: seen.append(x.tolist()))
        x += 1
        launch(lambda: seen.append(x.tolist()))
        return x

    captured = Graph(function, torch.zeros(2))
    captured.replay(torch.full((2,), 5.0))
    assert seen == [[0, 0], [1, 1], [5, 5], [6, 6]]


def test_what_a_launch_does_is_not_captured_once_more() -> None:
    def function(x: Tensor) -> Tensor:
        launch(x.add_, 1)
        return x

    captured = Graph(function, torch.zeros(2))
    assert len(captured.calls) == 1
    captured.replay(torch.zeros(2))
    assert captured.outputs.tolist() == [1, 1]


@pytest.mark.parametrize("function", [lambda x: x.sum().item(), lambda x: x[x > 0], torch.rand_like, torch.bernoulli])
def test_what_depends_on_elements_or_chance_cannot_be_captured(function: Callable[[Tensor], Any]) -> None:
    with pytest.raises(CaptureError):
        Graph(function, torch.ones(2))


def test_nothing_is_captured_after_an_error() -> None:
    calls = list[str]()

    def fail(x: Tensor) -> Tensor:
        launch(lambda: calls.append("own"))
        raise ValueError("own")

    with pytest.raises(ValueError, match="own"):
        Graph(fail, torch.ones(2))
    launch(lambda: calls.append("after"))
    assert calls == ["own", "after"] and getattr(module._thread, "graph", None) is None
    assert not module._one_at_a_time.locked()


class Inputs(NamedTuple):
    """As a microbatch is: tensors in a tree, with what is none and constants."""

    x: Tensor
    weights: dict[str, Tensor]
    optional: Tensor | None = None
    rows: int = 3


class Model:
    """Kernels and torch's operations with gradients, and how often they ran."""

    def __init__(self) -> None:
        self.runs = 0
        self.weight, self.bias = draw(0, 2, 5, 4).float(), draw(1, 2, 4).float()

    def __call__(self, inputs: Inputs) -> tuple[Tensor, list[Tensor]]:
        self.runs += 1
        x, weight = inputs.x.detach().requires_grad_(), self.weight.detach().requires_grad_()
        out = ops.mlp_bank(x, [weight], [self.bias]) * inputs.weights["row"][:, None] / inputs.rows
        out = out if inputs.optional is None else out + inputs.optional
        return out.detach(), list(torch.autograd.grad(out.square().sum(), [x, weight]))

    def captured(self, kinds: int = KINDS) -> Captured[tuple[Tensor, list[Tensor]]]:
        return Captured(self, [self.weight, self.bias], kinds)


def inputs(seed: int, rows: int = 9, **more: Any) -> Inputs:
    return Inputs(draw(seed, rows, 5).float(), {"row": draw(seed + 1, rows).float()}, **more)


def check(captured: Captured[Any], given: Inputs) -> None:
    """Against the function itself."""
    with ops.compute(CPU):
        (out, grads), (right, expected) = captured(given), captured.function(given)
    assert torch.equal(out, right) and all(map(torch.equal, grads, expected))


def graphs(captured: Captured[Any]) -> int:
    captured.begin(static_outputs=False)
    return sum(map(len, captured._idle.values()))


def test_the_first_call_of_a_kind_runs_the_second_is_captured_and_others_replayed() -> None:
    model = Model()
    captured, runs = model.captured(), list[int]()
    with ops.compute(CPU):
        for seed in range(5):
            captured(inputs(seed))
            runs.append(model.runs)
    assert runs == [1, 2, 2, 2, 2] and graphs(captured) == 1
    for seed in range(3):
        check(captured, inputs(seed))


def test_each_kind_has_its_own_and_a_third_one_none() -> None:
    """By shapes, constants, what is none, and types."""
    captured = Model().captured()
    for seed, rows in enumerate((9, 4, 9, 4, 7, 7, 9, 4, 7)):
        check(captured, inputs(seed, rows))
    assert graphs(captured) == KINDS == 2
    others = [inputs(1), inputs(1, rows=3), inputs(1)._replace(rows=7), inputs(1, optional=torch.ones(4))]
    captured = Model().captured(kinds=9)
    for seed in range(3):
        for other in others:
            check(captured, other._replace(x=draw(seed, len(other.x), 5).float()))
    assert graphs(captured) == 4


@pytest.mark.parametrize("kinds", [0, 1])
def test_no_more_kinds_are_captured_than_there_shall_be(kinds: int) -> None:
    captured = Model().captured(kinds)
    for seed, rows in enumerate((9, 4, 9, 4)):
        check(captured, inputs(seed, rows))
    assert graphs(captured) == kinds


def test_what_is_read_may_change_in_place_and_move_to_other_memory() -> None:
    model = Model()
    captured = Captured(model, [model.weight, model.bias], 9)
    for seed in range(3):
        check(captured, inputs(seed))
    model.weight += 1
    check(captured, inputs(5))
    assert graphs(captured) == 1
    model.weight.data = model.weight.clone() * 2
    for seed in range(3):
        check(captured, inputs(seed))
    assert graphs(captured) == 2


def test_outputs_are_the_callers_own() -> None:
    """Unless they are lent: then they stay until the next `begin`, and a second call has a graph of its own."""
    captured = Model().captured()
    with ops.compute(CPU):
        for seed in range(2):
            captured(inputs(seed))
        first, _ = captured(inputs(2))
        kept = first.clone()
        captured(inputs(3))
        assert torch.equal(first, kept) and graphs(captured) == 1
        captured.begin(static_outputs=True)
        shared = [captured(inputs(seed))[0] for seed in (2, 3, 4)]
        right = [captured.function(inputs(seed))[0] for seed in (2, 3, 4)]
        assert list(map(torch.equal, shared, right)) == [True] * 3 and not any(captured._idle.values())
        assert graphs(captured) == 3
        captured(inputs(7))
        assert sum(map(torch.equal, shared, right)) == 2


def test_what_cannot_be_captured_runs_each_time() -> None:
    runs = list[int]()

    def function(x: Tensor) -> Tensor:
        runs.append(1)
        return x[x > 0]

    captured = Captured(function, [])
    for seed in range(4):
        x = draw(seed, 9)
        assert torch.equal(captured(x), x[x > 0])
    assert graphs(captured) == 0 and len(runs) == 5  # one of them in vain


def test_chance_is_new_each_time() -> None:
    captured = Captured(lambda x: x + torch.rand(()), [])
    assert len({captured(torch.zeros(())).item() for _ in range(5)}) == 5


def test_an_error_of_the_function_is_the_callers() -> None:
    def function(x: Tensor) -> Tensor:
        raise ValueError("own")

    captured = Captured(function, [])
    for _ in range(3):
        with pytest.raises(ValueError, match="own"):
            captured(torch.zeros(2))
    assert graphs(captured) == 0


def test_threads_have_graphs_of_their_own() -> None:
    model, meet = Model(), Barrier(4, timeout=60)
    captured = model.captured(kinds=9)
    expected = []
    with ops.compute(CPU):
        expected = [model(inputs(seed, 9 + seed % 2)) for seed in range(40)]

    def work(first: int) -> list[tuple[Tensor, list[Tensor]]]:
        meet.wait()
        with ops.compute(CPU):
            return [captured(inputs(seed, 9 + seed % 2)) for seed in range(first, 40, 4)]

    with ThreadPoolExecutor(4) as pool:
        for first, found in enumerate(pool.map(work, range(4))):
            for (out, grads), (right, others) in zip(found, expected[first::4], strict=True):
                assert torch.equal(out, right) and all(map(torch.equal, grads, others))
    assert 1 <= graphs(captured) <= 8


@pytest.mark.slow
def test_capturing_does_not_load_torchs_compiler() -> None:
    """Which takes longer than a thousand steps of a small model."""
    code = (
        "import sys; from tests.kernels.cpu.test_graph import *\n"
        "captured = Model().captured()\n"
        "for seed in range(3): check(captured, inputs(seed))\n"
        "print(graphs(captured), 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False"]
