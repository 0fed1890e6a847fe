"""LLVM code on vectors in this processor's registers: what numba's own loops do not keep there.

Rows and vectors are given by address (int64); a vector's elements are float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from llvmlite import binding, ir
from numba.core import cgutils, config

FLOAT: Final = 4  # bytes
HAS: Final = config.CPU_FEATURES if config.CPU_FEATURES is not None else binding.get_host_cpu_features().flatten()
HAS_32_REGISTERS: Final = "+avx512f" in HAS or "+neon" in HAS
"""Whether there are 32 vector registers, and not 16."""
LANES: Final = 16 if "+avx512f" in HAS else 8 if "+avx" in HAS else 4
"""Elements of a register."""
I32: Final = ir.IntType(32)
I64: Final = ir.IntType(64)
REAL: Final = ir.FloatType()
VECTOR: Final = ir.VectorType(REAL, LANES)
ZEROS: Final = ir.Constant(VECTOR, [0.0] * LANES)
_AT_ONCE: Final = 8 if HAS_32_REGISTERS else 4
LONG: Final = ((_AT_ONCE, LANES), (1, LANES), (1, 1))
"""(registers, elements of each) of the chunks of long rows."""
HALVING: Final = tuple((1, LANES >> i) for i in range(LANES.bit_length()))
"""Of short rows, which may have fewer elements than a register."""


def load_vector(builder: Any, address: Any, lanes: int = LANES) -> Any:
    """`lanes` elements at an address."""
    vector = builder.load(builder.inttoptr(address, ir.VectorType(REAL, lanes).as_pointer()))
    vector.align = FLOAT
    return vector


def store_vector(builder: Any, vector: Any, address: Any) -> None:
    """Store all elements at an address."""
    builder.store(vector, builder.inttoptr(address, vector.type.as_pointer())).align = FLOAT


def load_scalar(builder: Any, address: Any) -> Any:
    """One element."""
    return builder.load(builder.inttoptr(address, REAL.as_pointer()))


def vector_addresses(builder: Any, begin: Any, vectors: int, lanes: int = LANES) -> list[Any]:
    """Addresses of vectors one after the other."""
    return [builder.add(begin, I64(v * lanes * FLOAT)) for v in range(vectors)]


def broadcast(builder: Any, scalar: Any, lanes: int = LANES) -> Any:
    """A scalar in every lane."""
    blank = ir.Constant(ir.VectorType(REAL, lanes), ir.Undefined)
    first = builder.insert_element(blank, scalar, I32(0))
    return builder.shuffle_vector(first, blank, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


def fma(builder: Any, x: Any, y: Any, total: Any) -> Any:
    """X · y + total, of vectors of any length."""
    kind = ir.FunctionType(total.type, [total.type] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{total.type.count}f32")
    return builder.call(function, [x, y, total])


def bias_relu(builder: Any, total: Any, bias: Any, slope: Any) -> Any:
    """Total + bias, times the slope where that is not above 0. nan stays."""
    total = builder.fadd(total, bias)
    return leaky_relu_by(builder, total, total, slope)


def leaky_relu_by(builder: Any, vector: Any, output: Any, slope: Any) -> Any:
    """A vector, times the slope where `output` is not above 0: the activation, and its derivative by its output."""
    is_below = builder.fcmp_ordered("<=", output, ir.Constant(output.type, None))
    return builder.select(is_below, builder.fmul(vector, slope), vector)


def prefetch_at(builder: Any, address: Any) -> None:
    """Bring the cache line of an address near, to be written; any address is valid."""
    void = cgutils.voidptr_t
    kind = ir.FunctionType(ir.VoidType(), [void, I32, I32, I32])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [builder.inttoptr(address, void), *map(I32, (1, 3, 1))])


@contextmanager
def for_each_row(builder: Any, indices: Any, count: Any, table: Any, width: Any) -> Iterator[Any]:
    """Code for the address of each row of `table` that `count` int32 `indices` name."""
    with cgutils.for_range(builder, count) as loop:
        place = builder.inttoptr(builder.add(indices, builder.mul(loop.index, I64(FLOAT))), I32.as_pointer())
        before = builder.mul(builder.zext(builder.load(place), I64), width)
        yield builder.add(table, builder.mul(before, I64(FLOAT)))


class Chunk:
    """The same few registers of several rows; rows are given by address."""

    def __init__(self, builder: Any, offset: Any, vectors: int, lanes: int) -> None:
        self.builder, self.offset, self.vectors, self.lanes = builder, offset, vectors, lanes
        self.zeros = ir.Constant(ir.VectorType(REAL, lanes), None)

    def load(self, row: Any) -> list[Any]:
        """Its vectors of a row."""
        return [load_vector(self.builder, address, self.lanes) for address in self._addresses(row)]

    def store(self, vectors: list[Any], row: Any) -> None:
        """Store vectors as its part of a row."""
        for vector, address in zip(vectors, self._addresses(row), strict=True):
            store_vector(self.builder, vector, address)

    def broadcast(self, scalar: Any) -> Any:
        """A scalar in every lane."""
        return broadcast(self.builder, scalar, self.lanes)

    def fma(self, a: Any, b: Any, total: Any) -> Any:
        """A · b + total."""
        return fma(self.builder, a, b, total)

    def unary(self, name: str, vector: Any) -> Any:
        """An LLVM intrinsic of one vector, such as sqrt."""
        kind = ir.FunctionType(vector.type, [vector.type])
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.{name}.v{self.lanes}f32")
        return self.builder.call(function, [vector])

    def sum(self, vector: Any) -> Any:
        """The sum of a vector's elements, in any order."""
        kind = ir.FunctionType(REAL, [REAL, vector.type])
        name = f"llvm.vector.reduce.fadd.v{self.lanes}f32"
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, [ir.Constant(REAL, 0.0), vector], fastmath=("reassoc",))

    def _addresses(self, row: Any) -> list[Any]:
        return vector_addresses(self.builder, self.builder.add(row, self.offset), self.vectors, self.lanes)


def for_each_chunk(
    builder: Any, width: Any, body: Callable[[Chunk], None], sizes: Sequence[tuple[int, int]] = LONG
) -> None:
    """Code for rows of `width` elements (int64): as many chunks of the first size as fit, then of the next ones."""
    done: Any = I64(0)
    for vectors, lanes in sizes:
        size = I64(vectors * lanes)
        count = builder.sdiv(builder.sub(width, done), size)
        with cgutils.for_range(builder, count) as loop:
            begin = builder.add(done, builder.mul(loop.index, size))
            body(Chunk(builder, builder.mul(begin, I64(FLOAT)), vectors, lanes))
        done = builder.add(done, builder.mul(count, size))


def variables(builder: Any, vectors: Sequence[Any]) -> list[Any]:
    """Variables that begin with these; LLVM keeps them in registers."""
    return [cgutils.alloca_once_value(builder, vector) for vector in vectors]


def assign(builder: Any, vectors: Sequence[Any], targets: Sequence[Any]) -> None:
    """Give variables their values."""
    for vector, target in zip(vectors, targets, strict=True):
        builder.store(vector, target)
