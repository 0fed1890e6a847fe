"""Capture and replay, as CUDA graphs: what a function does to tensors is captured once, and replayed on other ones.

A replay launches kernels and torch's operations alone, without modules, autograd, or looking for memory: a tenth as
much of Python, whose lock threads wait for. No size and no branch in a captured function may depend on elements.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from funnelcast.kernels.cpu.buffers import Pool, pool
from funnelcast.kernels.cpu.outlined import raise_failed

KINDS: Final = 2
"""Graphs are captured of so many kinds of input: in training whole microbatches, and what an epoch ends with."""
_NOT_TO_REPEAT: Final = {
    torch.Tag.nondeterministic_seeded, torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape
}  # fmt: skip
_thread, _one_at_a_time = threading.local(), threading.Lock()
Out = TypeVar("Out")


class CaptureError(Exception):
    """Something that depends on elements or on chance was done."""


def launch(kernel: Callable[..., Any], *arguments: Any) -> None:
    """Call a kernel; and where this thread captures, again in every replay."""
    graph: Graph | None = getattr(_thread, "graph", None)
    if graph is None:
        kernel(*arguments)
        raise_failed()
        return
    graph.calls.append(partial(kernel, *arguments))
    graph.listens = False
    kernel(*arguments)
    graph.listens = True
    raise_failed()


def once() -> None:
    """Raise RuntimeError where a backward pass is to be differentiated: kernels have no second derivative. What
    `torch.autograd.function.once_differentiable` returns would be taken for a constant."""
    if torch.is_grad_enabled():
        raise RuntimeError("kernels have no second derivative; take ops.compute(order=2)")


class Graph:
    """A function's calls on tensors, and the memory that they work in."""

    def __init__(self, function: Callable[[Any], Any], inputs: Any) -> None:
        """Call `function` of a copy of `inputs`, a pytree of tensors. Raises CaptureError."""
        self.calls: list[Callable[[], Any]] = []
        self.tensors: list[Tensor] = []
        self.buffers: Pool = {}
        self.listens = True
        own = tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, inputs)
        self.inputs = _flat(own)
        with self._capturing():
            self.outputs = function(own)

    @contextmanager
    def _capturing(self) -> Iterator[None]:
        with _one_at_a_time, pool(self.buffers), _Recorder(self):
            _thread.graph = self
            try:
                yield
            finally:
                _thread.graph = None

    @torch.no_grad()
    def replay(self, inputs: Any) -> None:
        """Fill `outputs` from other inputs of the same shapes."""
        for own, new in zip(self.inputs, _flat(inputs), strict=True):
            if isinstance(own, Tensor):
                own.copy_(new)
        for call in self.calls:
            call()

    def add(self, operation: Any, arguments: Any, named: dict[str, Any], results: list[Tensor]) -> None:
        """Capture an operation of torch's that has made `results`."""
        self.tensors += results
        if _NOT_TO_REPEAT & set(operation.tags):
            raise CaptureError(operation.name())
        arguments, named, results = (_as_now(each) for each in (arguments, named, results))
        if torch.Tag.inplace_view in operation.tags:
            return
        if operation._schema.is_mutable:
            self.calls.append(partial(operation, *arguments, **named))
        elif not operation.name().startswith(("aten::empty", "aten::new_empty")) and not _are_views(results, arguments):
            self.calls.append(_into(results, operation, arguments, named))


class Captured(Generic[Out]):
    """A function that is captured at its second call with inputs of a kind, and replayed from then on; from any
    thread, each with a graph of its own."""

    def __init__(self, function: Callable[[Any], Out], reads: Iterable[Tensor], kinds: int = KINDS) -> None:
        """`function`: of a pytree of tensors and constants, to tensors in tuples and lists; `reads`: all other tensors
        that it reads, which stay where they are; `kinds`: of inputs that are captured, 0 for none."""
        self.function, self._reads, self._kinds = function, list(reads), kinds
        self._idle: dict[tuple[object, ...], list[Graph]] = {}
        self._in_use: list[tuple[list[Graph], Graph]] = []
        self._static_outputs = False

    def begin(self, *, static_outputs: bool) -> None:
        """Free all graphs. `static_outputs`: outputs need not be copied; they stay valid until the next `begin`."""
        for idle, graph in self._in_use:
            idle.append(graph)
        self._in_use, self._static_outputs = [], static_outputs

    def __call__(self, inputs: Any) -> Out:
        """What `function` returns, to the bit."""
        idle = self._idle_for(inputs)
        if idle is None:
            return self.function(inputs)
        graph = self._replayed(idle, inputs) or self._captured(inputs)
        if graph is None:
            return self.function(inputs)
        outputs: Out = graph.outputs
        if self._static_outputs:
            self._in_use.append((idle, graph))
        else:
            outputs = tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, outputs)
            idle.append(graph)
        return outputs

    def _replayed(self, idle: list[Graph], inputs: Any) -> Graph | None:
        try:
            graph = idle.pop()
        except IndexError:
            return None
        graph.replay(inputs)
        return graph

    def _captured(self, inputs: Any) -> Graph | None:
        """None where that cannot be, or another thread is at it."""
        if _one_at_a_time.locked():
            return None
        try:
            return Graph(self.function, inputs)
        except CaptureError:
            self._kinds = 0
            return None

    def _idle_for(self, inputs: Any) -> list[Graph] | None:
        """None for the first inputs of a kind, which may be the only ones, and where no more are to be captured."""
        if not self._kinds:
            return None
        kind = tuple((leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf for leaf in _flat(inputs))
        key = (kind, *(tensor.data_ptr() for tensor in self._reads))
        if key not in self._idle and len(self._idle) < self._kinds:
            self._idle[key] = []
            return None
        return self._idle.get(key)


class _Recorder(TorchDispatchMode):
    def __init__(self, graph: Graph) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.graph = graph


def _record(mode: _Recorder, operation: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
    found = operation(*arguments, **(named or {}))
    if mode.graph.listens:
        mode.graph.add(operation, arguments, named or {}, _tensors(found))
    return found


# A class that has it from the start loads torch's compiler, which takes 2 s.
_Recorder.__torch_dispatch__ = _record  # type: ignore[method-assign,assignment]


def _flat(tree: Any) -> list[Any]:
    """The leaves of a pytree of tuples, lists and dicts, and the length of each: in a fifth of torch's time for it."""
    if isinstance(tree, dict):
        return [*tree, *_flat([*tree.values()])]
    if not isinstance(tree, tuple | list):
        return [tree]
    return [len(tree), *(leaf for each in tree for leaf in _flat(each))]


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _as_now(tree: Any) -> Any:
    """The same memory, in the shapes that tensors have now."""
    return tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, tree)


def _are_views(results: list[Tensor], arguments: Any) -> bool:
    """Whether all of them lie in the arguments' memory."""
    memories = {tensor.untyped_storage().data_ptr() for tensor in _tensors(arguments)}
    return all(result.untyped_storage().data_ptr() in memories for result in results)


def _into(results: list[Tensor], operation: Any, arguments: Any, named: dict[str, Any]) -> Callable[[], Any]:
    """The operation once more, into `results`."""
    if operation.name().startswith(("aten::zeros", "aten::new_zeros")):
        return results[0].zero_
    if operation.name().startswith(("aten::ones", "aten::new_ones")):
        return partial(results[0].fill_, 1)
    for name in operation.overloadpacket.overloads():
        other = getattr(operation.overloadpacket, name)
        out = [each.name for each in other._schema.arguments if each.is_out]
        rest = [(each.name, str(each.type)) for each in other._schema.arguments if not each.is_out]
        if out and rest == [(each.name, str(each.type)) for each in operation._schema.arguments]:
            return partial(other, *arguments, **named, **dict(zip(out, results, strict=True)))
    return partial(_copy_again, results, operation, arguments, named)


def _copy_again(results: list[Tensor], operation: Any, arguments: Any, named: dict[str, Any]) -> None:
    for result, new in zip(results, _tensors(operation(*arguments, **named)), strict=True):
        result.copy_(new)
