"""Products of bfloat16: the same as of numbers that are rounded to it, summed in float32."""

import numpy as np
import pytest
import torch
from torch import Tensor

from funnelcast.errors import FunnelcastError
from funnelcast.layers import mode as module
from funnelcast.layers.banks import MLPBank
from funnelcast.layers.gates import GateBank, GatedExperts, own_and_shared
from funnelcast.layers.halves import pack_pairs, pack_turned_pairs, pair_columns, pair_rows, pairs, rounded, turn_pairs
from funnelcast.layers.kernels import BLOCK
from funnelcast.layers.mode import HAS_BFLOAT16, Mode, is_half
from funnelcast.layers.products import PANEL
from funnelcast.layers.tiles import LANES
from tests.layers.reference import draw, randomise

needs_half = pytest.mark.skipif(not HAS_BFLOAT16, reason="no such instructions here")
HALF = Mode(fused=True, half=True)


def half(x: Tensor) -> Tensor:
    """Rounded, to the nearest."""
    return x.float().bfloat16().double()


def halves_of(words: Tensor) -> Tensor:
    return words.view(torch.bfloat16).double()


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, 1.00390625, 1.01171875, 3e38, 3.4e38, 1e-40, np.inf, -np.inf])
def test_numbers_are_rounded_as_torch_rounds_them(value: float) -> None:
    bits = int(np.float32(value).view(np.uint32))
    expected = int(torch.tensor(value, dtype=torch.float32).bfloat16().view(torch.int16)) & 0xFFFF
    assert rounded(bits) & 0xFFFF == expected


def test_what_is_no_number_stays_none() -> None:
    for bits in (0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000):
        assert np.isnan(np.uint32((rounded(bits) & 0xFFFF) << 16).view(np.float32))


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 16), (7, 33), (6, PANEL + 3), (64, 16), (75, 45)])
def test_pairs_of_columns_and_of_rows(rows: int, columns: int) -> None:
    x = draw(0, rows, columns).float()
    words = torch.full((rows, pairs(columns)), 7.0)
    pair_columns(x.data_ptr(), rows, columns, words.data_ptr())
    assert torch.equal(halves_of(words)[:, :columns], half(x)) and not halves_of(words)[:, columns:].any()
    words = torch.full((columns, pairs(rows)), 7.0)
    turn_pairs(x.data_ptr(), rows, columns, words.data_ptr())
    assert torch.equal(halves_of(words)[:, :rows], half(x).t()) and not halves_of(words)[:, rows:].any()
    words = torch.full((pairs(rows), columns), 7.0)
    pair_rows(x.data_ptr(), rows, columns, words.data_ptr())
    found = halves_of(words).view(pairs(rows), columns, 2).transpose(1, 2).reshape(-1, columns)
    assert torch.equal(found[:rows], half(x)) and not found[rows:].any()


@pytest.mark.parametrize(("depth", "columns"), [(1, 1), (5, 33), (6, PANEL + 3)])
def test_panels_of_pairs(depth: int, columns: int) -> None:
    w, panels = draw(0, depth, columns).float(), -(-columns // PANEL)
    words = torch.full((panels, pairs(depth), PANEL), 7.0)
    pack_pairs(w.data_ptr(), depth, columns, words.data_ptr())
    unpacked = halves_of(words).view(panels, -1, PANEL, 2).permute(1, 3, 0, 2).reshape(2 * pairs(depth), -1)
    assert torch.equal(unpacked[:depth, :columns], half(w))
    read = -(-columns // LANES) * LANES
    assert (
        not unpacked[depth:, :read].any() and not unpacked[:, columns:read].any() and (unpacked[1::2, read:] == 7).all()
    )
    turned, room = w.t().contiguous(), torch.empty(columns, pairs(depth))
    again = torch.full_like(words, 7.0)
    pack_turned_pairs(turned.data_ptr(), columns, depth, again.data_ptr(), room.data_ptr())
    assert torch.equal(again.view(torch.int32), words.view(torch.int32))


@needs_half
@pytest.mark.parametrize("rows", [1, 37, BLOCK + 5])
@pytest.mark.parametrize("widths", [(70, 33), (5,), (64, 32), (33, 48, 3)])
def test_a_bank_multiplies_rounded_numbers(widths: tuple[int, ...], rows: int) -> None:
    """Of a bank of one, by hand: a layer's input, its weight, and the gradient of its output are rounded."""
    bank = MLPBank(1, 7, widths)
    randomise(bank, scale=0.3)
    x, direction = draw(1, rows, 7).float().requires_grad_(), draw(2, 1, rows, widths[-1]).float()
    out = bank(x, HALF)
    found = torch.autograd.grad((out * direction).sum(), [x, *bank.parameters()])
    parameters = [p.detach().squeeze(0) for p in bank.parameters()]
    inputs, a = [], x.detach().double()
    for weight, bias in zip(parameters[0::2], parameters[1::2], strict=True):
        inputs.append(a)
        a = (half(a) @ half(weight) + bias).relu()
    torch.testing.assert_close(out.double().squeeze(0), a, rtol=1e-2, atol=1e-2)
    g, expected = direction.double().squeeze(0), list[Tensor]()
    outputs = [*inputs[1:], a]
    for i in range(len(widths) - 1, -1, -1):
        g = g * (outputs[i] > 0)
        expected = [half(inputs[i]).t() @ half(g), g.sum(0), *expected]
        g = half(g) @ half(parameters[2 * i]).t()
    for mine, right in zip(found, [g, *expected], strict=True):
        error = (mine.double().squeeze(0) - right).norm() / right.norm().clamp(min=1e-9)
        assert error < 5e-3  # a last bit of float32 may round another way


@needs_half
def test_a_mixture_is_near_that_of_float32_and_no_other() -> None:
    trunk, x = GatedExperts(MLPBank(5, 9, (40, 20)), GateBank(9, own_and_shared(2, 2, 1))), draw(1, 300, 9).float()
    randomise(trunk, scale=0.3)
    with torch.no_grad():
        exact, near = trunk(x, Mode(fused=True)), trunk(x, HALF)
    error = float((near - exact).norm() / exact.norm())
    assert 1e-4 < error < 1e-2


@pytest.mark.parametrize(("has", "lacks"), [(False, "this processor has no"), (True, "the system keeps AMX")])
def test_a_machine_without_them_says_so(has: bool, lacks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HAS_BFLOAT16", False)
    monkeypatch.setattr(module, "HAS_HALF", has)
    with pytest.raises(FunnelcastError, match=f"{lacks}.*take precision = 'float32'"):
        is_half("bfloat16", torch.device("cpu"))
    assert is_half("bfloat16", torch.device("cuda")) and not is_half("float32", torch.device("cpu"))
