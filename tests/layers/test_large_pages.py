"""Tables on large pages: what the system was asked, as it tells in /proc."""

import sys
from pathlib import Path

import pytest
import torch

from funnelcast.data.encoder import InputSpec
from funnelcast.layers.embedding import EmbeddingTable
from funnelcast.layers.large_pages import LEAST, on_large_pages
from funnelcast.training.adam import RowAdam

SMAPS = Path("/proc/self/smaps")
PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
needs_large_pages = pytest.mark.skipif(not PAGES.exists(), reason="a system without large pages")


def asks_for_large_pages(tensor: torch.Tensor) -> bool:
    """Of the tensor's middle, by the flag `hg` of its stretch of memory."""
    middle, is_own = tensor.data_ptr() + tensor.numel() * 2, False
    for line in SMAPS.read_text().splitlines():
        first, _, rest = line.partition("-")
        if rest and len(first) >= 8 and all(c in "0123456789abcdef" for c in first):
            is_own = int(first, 16) <= middle < int(rest.split()[0], 16)
        elif is_own and line.startswith("VmFlags"):
            return "hg" in line.split()
    raise AssertionError("no such memory")


@needs_large_pages
def test_tables_and_their_moments_are_on_large_pages() -> None:
    inputs = InputSpec((("item", "item"),), {"item": LEAST // 16}, ())
    table = EmbeddingTable(inputs, ["item"], 5, {})
    adam = RowAdam(table, 0.1, 0.0)
    assert all(asks_for_large_pages(each.detach()) for each in (table.weight, adam.moments))
    assert not adam.moments.any()


@pytest.mark.parametrize("numbers", [0, 1, LEAST // 4 - 1, LEAST // 4, LEAST])
def test_numbers_stay(numbers: int) -> None:
    before = torch.arange(numbers, dtype=torch.float32)
    after = on_large_pages(before)
    assert after is before
    assert torch.equal(after, torch.arange(numbers, dtype=torch.float32))


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS and Windows, whose mmap has no such advice."""
    monkeypatch.delattr("mmap.MADV_HUGEPAGE", raising=sys.platform == "linux")
    assert on_large_pages(torch.zeros(LEAST)).sum() == 0
