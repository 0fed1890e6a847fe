"""Operations on tensors, recorded once and played again on other numbers in the same memory.

What is played are calls alone, of compiled loops and of torch's operations beside them, without modules, autograd, or
looking for memory: a tenth as much of Python, whose lock threads wait for. No size in what is recorded, and no choice,
may depend on numbers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from funnelcast.layers.workspace import Shelves, shelves

_thread, _lock = threading.local(), threading.Lock()
_NOT_TO_REPEAT: Final = {
    torch.Tag.nondeterministic_seeded, torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape
}  # fmt: skip


class RecordingError(Exception):
    """Something that depends on numbers or on chance was done."""


def perform(function: Callable[..., Any], *arguments: Any) -> None:
    """Calls it; and where this thread records, again whenever that is played."""
    tape: Tape | None = getattr(_thread, "tape", None)
    if tape is None:
        function(*arguments)
        return
    tape.calls.append(partial(function, *arguments))
    tape.listens = False
    function(*arguments)
    tape.listens = True


class Tape:
    """What one thread did, and the memory that it did it in."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], Any]] = []
        self.tensors: list[Tensor] = []
        self.shelves: Shelves = {}
        self.listens = True

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Of what this thread does meanwhile; one thread at a time. Raises RecordingError."""
        with _lock, shelves(self.shelves), _Recorder(self):
            _thread.tape = self
            try:
                yield
            finally:
                _thread.tape = None

    @torch.no_grad()
    def play(self) -> None:
        """Does it again: reads what then was there, and writes where it then wrote."""
        for call in self.calls:
            call()

    def add(self, operation: Any, arguments: Any, named: dict[str, Any], results: list[Tensor]) -> None:
        """An operation of torch's that has made `results`."""
        self.tensors += results
        if _NOT_TO_REPEAT & set(operation.tags):
            raise RecordingError(operation.name())
        arguments, named, results = (_as_now(each) for each in (arguments, named, results))
        if torch.Tag.inplace_view in operation.tags:
            return
        if operation._schema.is_mutable:
            self.calls.append(partial(operation, *arguments, **named))
        elif not _is_empty(operation) and not _are_views(results, arguments):
            self.calls.append(_into(results, operation, arguments, named))


class _Recorder(TorchDispatchMode):
    def __init__(self, tape: Tape) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tape = tape


def _record(mode: _Recorder, operation: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
    found = operation(*arguments, **(named or {}))
    if mode.tape.listens:
        mode.tape.add(operation, arguments, named or {}, _tensors(found))
    return found


# A class that has it from the start loads torch's compiler, which takes 2 s.
_Recorder.__torch_dispatch__ = _record  # type: ignore[method-assign,assignment]


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def copied(tree: Any) -> Any:
    """Tuples and lists of tensors, with copies of these."""
    return tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, tree)


def _as_now(tree: Any) -> Any:
    """The same numbers, in the shapes that they have now."""
    return tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, tree)


def _is_empty(operation: Any) -> bool:
    name: str = operation.name()
    return name.startswith(("aten::empty", "aten::new_empty"))


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
    return partial(_copy, results, operation, arguments, named)


def _copy(results: list[Tensor], operation: Any, arguments: Any, named: dict[str, Any]) -> None:
    for result, new in zip(results, _tensors(operation(*arguments, **named)), strict=True):
        result.copy_(new)
