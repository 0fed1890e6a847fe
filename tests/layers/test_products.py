"""Matrix products against numpy's in float64, for tiles that are whole and tiles that are not."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from funnelcast.layers.products import PANEL, pack, packed_size, times, turned_room, turned_times
from funnelcast.layers.tiles import LANES

SHAPES = [
    (1, 1, 1),
    (2, 3, LANES),
    (6, 90, PANEL),
    (7, 5, PANEL + LANES),
    (13, 8, 3 * PANEL - 1),
    (50, 33, LANES + 1),
    (PANEL + 5, 9, 4 * PANEL + 3),
]
GUARD = np.float32(77)
Matrix = NDArray[np.float32]


def drawn(seed: int, *shape: int) -> Matrix:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def guarded(matrix: Matrix) -> tuple[Matrix, Matrix]:
    """The matrix in a longer piece of memory, and what lies behind it."""
    memory = np.full(matrix.size + 2 * PANEL, GUARD)
    memory[: matrix.size] = matrix.ravel()
    return memory[: matrix.size].reshape(matrix.shape), memory[matrix.size :]


def packed(w: Matrix, *, turned: bool = False) -> Matrix:
    depth, columns = w.shape[::-1] if turned else w.shape
    row, column = w.strides[::-1] if turned else w.strides
    panels = np.full(packed_size(depth, columns) // 4, GUARD)
    pack(w.ctypes.data, row, column, depth, columns, panels.ctypes.data)
    return panels


def check(found: Matrix, behind: Matrix, expected: NDArray[np.float64]) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.sqrt(expected.size))
    np.testing.assert_array_equal(behind, GUARD)


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize(("rows", "depth", "columns"), SHAPES)
@pytest.mark.parametrize("turned", [False, True])
def test_a_product(rows: int, depth: int, columns: int, keep: int, turned: bool) -> None:
    """X B and, of the same memory, X Bᵀ."""
    x, w, before = drawn(0, rows, depth), drawn(1, depth, columns), drawn(2, rows, columns)
    y, behind = guarded(before)
    panels, room = packed(np.ascontiguousarray(w.T) if turned else w, turned=turned), np.empty(6 * PANEL, np.float32)
    times(x.ctypes.data, panels.ctypes.data, y.ctypes.data, rows, depth, columns, keep, room.ctypes.data, 0)
    check(y, behind, x.astype(np.float64) @ w + keep * before.astype(np.float64))


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize(("rows", "depth", "columns"), SHAPES)
def test_a_product_over_rows(rows: int, depth: int, columns: int, keep: int) -> None:
    """Xᵀ G, as of a weight's gradient."""
    x, (g, _), before = drawn(0, depth, rows), guarded(drawn(1, depth, columns)), drawn(2, rows, columns)
    w, behind = guarded(before)
    room, behind_room = guarded(np.empty(turned_room(rows, depth), np.float32))
    turned_times(x.ctypes.data, g.ctypes.data, w.ctypes.data, rows, depth, columns, keep, room.ctypes.data, 0)
    check(w, behind, x.astype(np.float64).T @ g + keep * before.astype(np.float64))
    np.testing.assert_array_equal(behind_room, GUARD)


@pytest.mark.slow
@pytest.mark.parametrize("features", ["+sse2,+sse4.2", "+sse2,+avx,+avx2,+fma"])
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="another kind of processor")
def test_the_same_on_a_lesser_processor(features: str, tmp_path: Path) -> None:
    """Of the same kind, with shorter registers and fewer of them."""
    lesser = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": str(tmp_path)}
    here = Path(__file__)
    chosen = [f"{here}::test_a_product", f"{here}::test_a_product_over_rows", f"{here.with_name('test_halves.py')}"]
    chosen.append(f"{here.with_name('test_fused.py')}::test_the_same_through_levels")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *chosen]
    run = subprocess.run(command, env=os.environ | lesser, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-3000:]
