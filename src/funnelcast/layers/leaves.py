"""Which tensors derivatives are by, so that hand-written functions make no others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor


class Leaves:
    """Tensors that derivatives are by."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._tensors = list(tensors)  # whose ids are theirs for as long as they are held
        self._ids = {id(tensor) for tensor in self._tensors}

    def lead_to(self, x: Tensor) -> bool:
        """Whether x is one of them, or made from one by operations that autograd has followed."""
        if x.grad_fn is None:
            return id(x) in self._ids
        nodes: list[Any] = [x.grad_fn]
        known = set(nodes)
        while nodes:
            node = nodes.pop()
            if id(getattr(node, "variable", None)) in self._ids:
                return True
            before = {source for source, _ in node.next_functions if source is not None} - known
            known |= before
            nodes += before
        return False
