"""Adam of one row of a table, as code that holds it in this processor's registers.

Of rows as short as an embedding's, a compiler moves number by number, and each takes a root and a quotient.
"""

from __future__ import annotations

from typing import Any, Final

from numba import types
from numba.extending import intrinsic

from funnelcast.layers.pieces import HALVING, Piece, in_pieces

BETAS: Final = (0.9, 0.999)
EPSILON: Final = 1e-8
TINY: Final = 1e-30
"""A weight or moment of at most this magnitude becomes 0, long before it is subnormal (1.2e-38). A step is not changed
by that: next to `EPSILON`, 1e-8, a root of 1e-15 and a mean of 1e-30 are nothing."""


def _to_move_row(
    typing: Any, weight: Any, mean: Any, square: Any, grad: Any, width: Any, shrink: Any, size: Any, scale: Any,
    lost: Any,
) -> Any:  # fmt: skip
    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        weight, mean, square, grad, width, shrink, size, scale, lost = values

        def move(piece: Piece) -> None:
            def spread(number: float) -> Any:
                return piece.spread(context.get_constant(types.float32, number))

            (w,), (m,), (s,), (g,) = map(piece.load, (weight, mean, square, grad))
            g = piece.multiply_add(piece.spread(shrink), w, g)
            m = piece.multiply_add(spread(1 - BETAS[0]), builder.fsub(g, m), m)
            fresh = builder.fmul(builder.fmul(spread(1 - BETAS[1]), g), g)
            s = piece.multiply_add(spread(BETAS[1]), s, fresh)
            spreads = piece.multiply_add(piece.root(s), piece.spread(scale), spread(EPSILON))
            step = builder.fdiv(builder.fmul(piece.spread(size), m), spreads)
            w = builder.fsub(w, piece.multiply_add(piece.spread(lost), w, step))
            for vector, row in ((w, weight), (m, mean), (s, square)):
                is_tiny = builder.fcmp_ordered("<=", piece.magnitude(vector), spread(TINY))  # not so for nan
                piece.store([builder.select(is_tiny, piece.zeros, vector)], row)

        in_pieces(builder, width, move, HALVING)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5, *[types.float32] * 4), code


move_row: Final = intrinsic(_to_move_row)
"""In place, `width` numbers at the addresses of a weight, its mean and its square, by a gradient at a fourth. `shrink`:
how much of the weight is added to the gradient; `size`: the rate over the correction of the mean; `scale`: that of the
root of the square; `lost`: the share of the weight that decay takes."""
