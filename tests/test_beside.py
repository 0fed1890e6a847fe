"""The page beside the peers: what counts, and how a ratio is paired."""

from typing import Any

from bench.beside import LOST, Work, lost_by, page


def found(rate: float, lost: float = 0.0, **more: Any) -> dict[str, Any]:
    return {what: {"rows_per_s": rate, "lost": lost} for what in ("train", "score")} | more


def test_ratios_are_of_a_round_and_what_lost_its_cores_is_left_out() -> None:
    """Of three rounds, in the last one others had a part of the cores."""
    floor = {"train": 100.0, "score": 100.0}
    known = {Work("funnelcast", "esmm", 5, 1, turn): found(rate, floor=floor) for turn, rate in enumerate((50, 90))}
    known[Work("funnelcast", "esmm", 5, 1, 2)] = found(900, floor=floor, bfloat16=found(900, 2 * LOST))
    known |= {Work("deepctr-torch", "esmm", 5, 1, turn): found(rate) for turn, rate in enumerate((10, 30, 1))}
    text = page(known, "", "small", 1000)
    assert "1 of 6 measurements do not count" in text
    assert "| esmm | 5 | 100 | funnelcast | 70 (50 – 90) | 70% |  |" in text
    assert "| 20% | 4.00 |" in text  # 50 / 10 and 90 / 30


def test_a_part_of_half_the_bits_counts_too() -> None:
    assert lost_by(found(1, 0.01, bfloat16=found(1, 0.2))) == 0.2
