"""Products of pairs of bfloat16 by AMX's tiles against float64, for tiles that are whole and tiles that are not."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from llvmlite import binding

from funnelcast.kernels.cpu.amx import HAS_AMX, ask_permission
from funnelcast.kernels.cpu.bf16 import pack_vnni, vnni_by_columns, vnni_by_rows, vnni_transposed, vnni_words
from funnelcast.kernels.cpu.codegen import HAS
from funnelcast.kernels.cpu.gemm import PANEL, gemm, gemm_tn, packed_size
from tests.layers.reference import draw

pytestmark = pytest.mark.skipif(not ask_permission(), reason="no AMX here, or the system keeps it back")
SHAPES = [(1, 1, 1), (16, 32, 16), (17, 33, 40), (33, 90, PANEL + 3), (50, 7, 2 * PANEL), (192, 256, 128)]
"""Rows, depth, columns."""
WITHOUT = """
import sys, pytest
from funnelcast.kernels.cpu import HAS_AMX, HAS_BF16
assert HAS_BF16 and not HAS_AMX
sys.exit(pytest.main(sys.argv[1:]))
"""


def near(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def rounded(x: torch.Tensor) -> torch.Tensor:
    return x.bfloat16().double()


@pytest.mark.parametrize("beta", [0, 1])
@pytest.mark.parametrize(("rows", "depth", "columns"), SHAPES)
def test_a_product(rows: int, depth: int, columns: int, beta: int) -> None:
    x, w, before = draw(0, rows, depth).float(), draw(1, depth, columns).float(), draw(2, rows + 1, columns).float()
    words, panels = torch.empty(rows, vnni_words(depth)), torch.empty(packed_size(vnni_words(depth), columns) // 4)
    vnni_by_columns(x.data_ptr(), rows, depth, words.data_ptr())
    pack_vnni(w.data_ptr(), depth, columns, panels.data_ptr())
    y = before.clone()
    gemm(words.data_ptr(), panels.data_ptr(), y.data_ptr(), rows, vnni_words(depth), columns, beta, 0, 1)
    near(y[:-1], rounded(x) @ rounded(w) + beta * before[:-1].double())
    assert torch.equal(y[-1], before[-1])


@pytest.mark.parametrize("beta", [0, 1])
@pytest.mark.parametrize(("rows", "depth", "columns"), SHAPES)
def test_a_product_over_rows(rows: int, depth: int, columns: int, beta: int) -> None:
    """Xᵀ G, as of a weight's gradient."""
    x, g, before = draw(0, depth, rows).float(), draw(1, depth, columns).float(), draw(2, rows + 1, columns).float()
    of_x, of_g = torch.empty(rows, vnni_words(depth)), torch.empty(vnni_words(depth), columns)
    vnni_transposed(x.data_ptr(), depth, rows, of_x.data_ptr())
    vnni_by_rows(g.data_ptr(), depth, columns, of_g.data_ptr())
    w = before.clone()
    gemm_tn(of_x.data_ptr(), of_g.data_ptr(), w.data_ptr(), rows, vnni_words(depth), columns, beta, 0, 1)
    near(w[:-1], rounded(x).t() @ rounded(g) + beta * before[:-1].double())
    assert torch.equal(w[-1], before[-1])


def test_nan_and_infinity_stay_in_their_rows() -> None:
    x, w = draw(0, 40, 50).float(), draw(1, 50, 20).float()
    x[3, 7], x[21, 0] = np.nan, np.inf
    words, y = torch.empty(40, vnni_words(50)), torch.empty(40, 20)
    panels = torch.empty(packed_size(vnni_words(50), 20) // 4)
    vnni_by_columns(x.data_ptr(), 40, 50, words.data_ptr())
    pack_vnni(w.data_ptr(), 50, 20, panels.data_ptr())
    gemm(words.data_ptr(), panels.data_ptr(), y.data_ptr(), 40, vnni_words(50), 20, 0, 0, 1)
    assert (~y.isfinite()).any(1).nonzero().flatten().tolist() == [3, 21] and y[3].isnan().all()


@pytest.mark.slow
def test_the_same_without_it(tmp_path: Path) -> None:
    """By AVX-512's products of bfloat16, which AMX takes the place of."""
    assert HAS_AMX
    lesser = HAS.replace("+amx-bf16", "-amx-bf16")
    own = {
        "NUMBA_CPU_NAME": binding.get_host_cpu_name(),
        "NUMBA_CPU_FEATURES": lesser,
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    tests = str(Path(__file__).with_name("test_bf16.py"))
    command = [sys.executable, "-c", WITHOUT, "-q", "-p", "no:cacheprovider", "-p", "no:xdist", tests]
    run = subprocess.run(command, env=os.environ | own, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-3000:]
