"""Matrix products against numpy's in float64, for tiles that are whole and tiles that are not."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from funnelcast.kernels.cpu.codegen import LANES
from funnelcast.kernels.cpu.gemm import (
    PANEL,
    gemm,
    gemm_bias_relu,
    gemm_mask,
    gemm_tn,
    gemm_tn_scratch,
    pack,
    packed_size,
)

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
    """The matrix at the beginning of longer memory, and what lies behind it."""
    memory = np.full(matrix.size + 2 * PANEL, GUARD)
    memory[: matrix.size] = matrix.ravel()
    return memory[: matrix.size].reshape(matrix.shape), memory[matrix.size :]


def packed(w: Matrix, *, transposed: bool = False) -> Matrix:
    depth, columns = w.shape[::-1] if transposed else w.shape
    row, column = w.strides[::-1] if transposed else w.strides
    panels = np.full(packed_size(depth, columns) // 4, GUARD)
    pack.from_python(w.ctypes.data, row, column, depth, columns, panels.ctypes.data)
    return panels


def check(found: Matrix, behind: Matrix, expected: NDArray[np.float64]) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.sqrt(expected.size))
    np.testing.assert_array_equal(behind, GUARD)


@pytest.mark.parametrize("beta", [0, 1])
@pytest.mark.parametrize(("rows", "depth", "columns"), SHAPES)
@pytest.mark.parametrize("transposed", [False, True])
def test_a_product(rows: int, depth: int, columns: int, beta: int, transposed: bool) -> None:
    """X B and, of the same memory, X Bᵀ."""
    x, w, before = drawn(0, rows, depth), drawn(1, depth, columns), drawn(2, rows, columns)
    y, behind = guarded(before)
    panels = packed(np.ascontiguousarray(w.T) if transposed else w, transposed=transposed)
    scratch = np.empty(6 * PANEL, np.float32)
    gemm(x.ctypes.data, panels.ctypes.data, y.ctypes.data, rows, depth, columns, beta, scratch.ctypes.data, 0)
    check(y, behind, x.astype(np.float64) @ w + beta * before.astype(np.float64))


@pytest.mark.parametrize("beta", [0, 1])
@pytest.mark.parametrize(("rows", "depth", "columns"), SHAPES)
def test_a_product_over_rows(rows: int, depth: int, columns: int, beta: int) -> None:
    """Xᵀ G, as of a weight's gradient."""
    x, (g, _), before = drawn(0, depth, rows), guarded(drawn(1, depth, columns)), drawn(2, rows, columns)
    w, behind = guarded(before)
    scratch, behind_scratch = guarded(np.empty(gemm_tn_scratch(rows, depth), np.float32))
    gemm_tn(x.ctypes.data, g.ctypes.data, w.ctypes.data, rows, depth, columns, beta, scratch.ctypes.data, 0)
    check(w, behind, x.astype(np.float64).T @ g + beta * before.astype(np.float64))
    np.testing.assert_array_equal(behind_scratch, GUARD)


WHOLE = [(rows, depth, columns) for rows, depth, columns in SHAPES if columns % LANES == 0]


@pytest.mark.parametrize("slope", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(("rows", "depth", "columns"), WHOLE)
def test_a_product_with_bias_and_relu(rows: int, depth: int, columns: int, slope: float) -> None:
    """A nan of X stays one."""
    x, w, bias = drawn(0, rows, depth), drawn(1, depth, columns), drawn(2, columns)
    x[-1, 0] = np.nan
    (y, behind), panels = guarded(np.empty((rows, columns), np.float32)), packed(w)
    addresses = (x.ctypes.data, panels.ctypes.data, y.ctypes.data)
    gemm_bias_relu.from_python(*addresses, rows, depth, columns, bias.ctypes.data, slope)
    total = x.astype(np.float64) @ w + bias
    check(y, behind, np.where(total <= 0, slope * total, total))


@pytest.mark.parametrize("slope", [0.0, 0.1])
@pytest.mark.parametrize(("rows", "depth", "columns"), WHOLE)
def test_a_product_backward_through_a_relu(rows: int, depth: int, columns: int, slope: float) -> None:
    """With dropout's scale; each row counts once in the bias's gradient."""
    g, w, output = drawn(0, rows, depth), drawn(1, depth, columns), drawn(2, rows, columns)
    (y, behind), (bias, behind_bias) = guarded(np.empty((rows, columns), np.float32)), guarded(drawn(3, columns))
    panels, before = packed(w), bias.astype(np.float64)
    addresses = (g.ctypes.data, panels.ctypes.data, y.ctypes.data)
    gemm_mask.from_python(*addresses, rows, depth, columns, output.ctypes.data, bias.ctypes.data, 1.25, slope)
    expected = np.where(output <= 0, slope, 1) * 1.25 * (g.astype(np.float64) @ w)
    check(y, behind, expected)
    check(bias, behind_bias, before + expected.sum(0))


@pytest.mark.slow
@pytest.mark.parametrize("features", ["+sse2,+sse4.2", "+sse2,+avx,+avx2,+fma"])
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="another kind of processor")
def test_the_same_on_a_lesser_processor(features: str, tmp_path: Path) -> None:
    """Of the same kind, with shorter registers and fewer of them."""
    lesser = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": str(tmp_path)}
    here, compared = Path(__file__), "tests/ops/test_kernels.py::test_the_same_values_and_gradients"
    chosen = [f"{here}::{name}" for name in globals() if name.startswith("test_a_product")]
    chosen += [f"{here.with_name(name)}" for name in ("test_bf16.py", "test_mixture.py")]
    chosen += [f"{here.parents[3] / compared}[{of}-37]" for of in ("expert_mixture-tiles in part", "mlp_bank-dropout")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *chosen]
    run = subprocess.run(command, env=os.environ | lesser, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-3000:]
