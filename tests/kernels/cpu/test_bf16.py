"""Products of bfloat16: those of operands that are rounded to it, summed in float32."""

import numpy as np
import pytest
import torch
from torch import Tensor

from funnelcast.errors import FunnelcastError
from funnelcast.kernels import cpu
from funnelcast.kernels.cpu.bank_kernels import BLOCK
from funnelcast.kernels.cpu.bf16 import (
    pack_vnni,
    pack_vnni_transposed,
    rounded,
    vnni_by_columns,
    vnni_by_rows,
    vnni_words,
)
from funnelcast.kernels.cpu.codegen import LANES
from funnelcast.kernels.cpu.gemm import PANEL
from funnelcast.layers.banks import MLPBank
from funnelcast.ops import check_precision, compute
from tests.layers.reference import draw, randomise

CPU = torch.device("cpu")
needs_bf16 = pytest.mark.skipif(bool(cpu.why_no_bfloat16()), reason="this processor does not multiply bfloat16")


def bf16(x: Tensor) -> Tensor:
    """Rounded, to the nearest."""
    return x.float().bfloat16().double()


def unpacked(words: Tensor) -> Tensor:
    return words.view(torch.bfloat16).double()


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, 1.00390625, 1.01171875, 3e38, 3.4e38, 1e-40, np.inf, -np.inf])
def test_elements_are_rounded_as_torch_rounds_them(value: float) -> None:
    bits = int(np.float32(value).view(np.uint32))
    expected = int(torch.tensor(value, dtype=torch.float32).bfloat16().view(torch.int16)) & 0xFFFF
    assert rounded(bits) & 0xFFFF == expected


def test_nan_stays_nan() -> None:
    for bits in (0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000):
        assert np.isnan(np.uint32((rounded(bits) & 0xFFFF) << 16).view(np.float32))


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 16), (7, 33), (6, PANEL + 3), (64, 16), (75, 45)])
def test_pairs_of_columns_and_of_rows(rows: int, columns: int) -> None:
    x = draw(0, rows, columns).float()
    words = torch.full((rows, vnni_words(columns)), 7.0)
    vnni_by_columns.from_python(x.data_ptr(), rows, columns, words.data_ptr())
    assert torch.equal(unpacked(words)[:, :columns], bf16(x)) and not unpacked(words)[:, columns:].any()
    words = torch.full((vnni_words(rows), columns), 7.0)
    vnni_by_rows.from_python(x.data_ptr(), rows, columns, words.data_ptr())
    found = unpacked(words).view(vnni_words(rows), columns, 2).transpose(1, 2).reshape(-1, columns)
    assert torch.equal(found[:rows], bf16(x)) and not found[rows:].any()


@pytest.mark.parametrize(("depth", "columns"), [(1, 1), (5, 33), (6, PANEL + 3)])
def test_panels_of_pairs(depth: int, columns: int) -> None:
    w, panels = draw(0, depth, columns).float(), -(-columns // PANEL)
    words = torch.full((panels, vnni_words(depth), PANEL), 7.0)
    pack_vnni.from_python(w.data_ptr(), depth, columns, words.data_ptr())
    found = unpacked(words).view(panels, -1, PANEL, 2).permute(1, 3, 0, 2).reshape(2 * vnni_words(depth), -1)
    assert torch.equal(found[:depth, :columns], bf16(w))
    read = -(-columns // LANES) * LANES
    assert not found[depth:, :read].any() and not found[:, columns:read].any() and (found[1::2, read:] == 7).all()
    transposed, scratch = w.t().contiguous(), torch.empty(columns, vnni_words(depth))
    other = torch.full_like(words, 7.0)
    pack_vnni_transposed.from_python(transposed.data_ptr(), columns, depth, other.data_ptr(), scratch.data_ptr())
    assert torch.equal(other.view(torch.int32), words.view(torch.int32))


@needs_bf16
@pytest.mark.parametrize("rows", [1, 37, BLOCK + 5])
@pytest.mark.parametrize("widths", [(70, 33), (5,), (64, 32), (33, 48, 3)])
def test_a_bank_multiplies_rounded_operands(widths: tuple[int, ...], rows: int) -> None:
    """Of a bank of one: a layer's input, its weight, and the gradient of its output are rounded."""
    bank = MLPBank(1, 7, widths)
    randomise(bank, scale=0.3)
    x, direction = draw(1, rows, 7).float().requires_grad_(), draw(2, 1, rows, widths[-1]).float()
    with compute(CPU, precision="bfloat16"):
        out = bank(x)
    found = torch.autograd.grad((out * direction).sum(), [x, *bank.parameters()])
    parameters = [p.detach().squeeze(0) for p in bank.parameters()]
    inputs, a = [], x.detach().double()
    for weight, bias in zip(parameters[0::2], parameters[1::2], strict=True):
        inputs.append(a)
        a = (bf16(a) @ bf16(weight) + bias).relu()
    torch.testing.assert_close(out.double().squeeze(0), a, rtol=1e-2, atol=1e-2)
    g, expected = direction.double().squeeze(0), list[Tensor]()
    outputs = [*inputs[1:], a]
    for i in range(len(widths) - 1, -1, -1):
        g = g * (outputs[i] > 0)
        expected = [bf16(inputs[i]).t() @ bf16(g), g.sum(0), *expected]
        g = bf16(g) @ bf16(parameters[2 * i]).t()
    for mine, right in zip(found, [g, *expected], strict=True):
        error = (mine.double().squeeze(0) - right).norm() / right.norm().clamp(min=1e-9)
        assert error < 5e-3  # a last bit of float32 may round another way


def test_a_machine_without_them_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "HAS_BF16", False)
    for ask in (check_precision, lambda precision, device: compute(device, precision=precision).__enter__()):
        with pytest.raises(FunnelcastError, match="this processor has no.*take precision = 'float32'"):
            ask("bfloat16", CPU)
    check_precision("bfloat16", torch.device("cuda"))
    check_precision("float32", CPU)
