"""A row of numbers piece by piece, as code that holds those of a piece in this processor's registers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from llvmlite import ir
from numba.core import cgutils

from funnelcast.layers.tiles import (
    FLOAT,
    HAS_MANY_REGISTERS,
    LANES,
    add_product,
    load_vector,
    places_of,
    spread,
    store_vector,
)

_AT_ONCE: Final = 8 if HAS_MANY_REGISTERS else 4
"""Registers of a piece, at most."""
LONG: Final = ((_AT_ONCE, LANES), (1, LANES), (1, 1))
"""Registers and numbers in each, of the pieces of long rows."""
HALVING: Final = tuple((1, LANES >> i) for i in range(LANES.bit_length()))
"""Of short rows, which may have fewer numbers than a register."""
_I64: Final = ir.IntType(64)
REAL: Final = ir.FloatType()


class Piece:
    """Some numbers of each of a few rows. Rows are given by address."""

    def __init__(self, builder: Any, offset: Any, vectors: int, lanes: int) -> None:
        self.builder, self.offset, self.vectors, self.lanes = builder, offset, vectors, lanes
        self.zeros = ir.Constant(ir.VectorType(REAL, lanes), None)

    def load(self, row: Any) -> list[Any]:
        """Its numbers of a row, as vectors."""
        return [load_vector(self.builder, place, self.lanes) for place in self._places(row)]

    def store(self, vectors: list[Any], row: Any) -> None:
        """Makes them its numbers of a row."""
        for vector, place in zip(vectors, self._places(row), strict=True):
            store_vector(self.builder, vector, place)

    def spread(self, number: Any) -> Any:
        """A number in every lane."""
        return spread(self.builder, number, self.lanes)

    def multiply_add(self, a: Any, b: Any, total: Any) -> Any:
        """a · b + total."""
        return add_product(self.builder, a, b, total)

    def root(self, vector: Any) -> Any:
        """The square root of each of its numbers."""
        kind = ir.FunctionType(vector.type, [vector.type])
        root = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.sqrt.v{self.lanes}f32")
        return self.builder.call(root, [vector])

    def magnitude(self, vector: Any) -> Any:
        """Each of its numbers without its sign."""
        kind = ir.FunctionType(vector.type, [vector.type])
        magnitude = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.fabs.v{self.lanes}f32")
        return self.builder.call(magnitude, [vector])

    def sum(self, vector: Any) -> Any:
        """Of a vector's numbers, in any order."""
        kind = ir.FunctionType(REAL, [REAL, vector.type])
        name = f"llvm.vector.reduce.fadd.v{self.lanes}f32"
        add = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(add, [ir.Constant(REAL, 0.0), vector], fastmath=("reassoc",))

    def _places(self, row: Any) -> list[Any]:
        return places_of(self.builder, self.builder.add(row, self.offset), self.vectors, self.lanes)


def in_pieces(builder: Any, width: Any, body: Callable[[Piece], None], sizes: Sequence[tuple[int, int]] = LONG) -> None:
    """Code for rows of so many numbers, int64: as many pieces of the first size as there are, then of the next ones."""
    done: Any = _I64(0)
    for vectors, lanes in sizes:
        size = _I64(vectors * lanes)
        whole = builder.sdiv(builder.sub(width, done), size)
        with cgutils.for_range(builder, whole) as loop:
            begin = builder.add(done, builder.mul(loop.index, size))
            body(Piece(builder, builder.mul(begin, _I64(FLOAT)), vectors, lanes))
        done = builder.add(done, builder.mul(whole, size))


def variables(builder: Any, vectors: Sequence[Any]) -> list[Any]:
    """Places that begin with these; LLVM makes registers of them."""
    return [cgutils.alloca_once_value(builder, vector) for vector in vectors]


def put(builder: Any, vectors: Sequence[Any], places: Sequence[Any]) -> None:
    """Stores them there."""
    for vector, place in zip(vectors, places, strict=True):
        builder.store(vector, place)
