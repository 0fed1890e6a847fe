"""The page beside the peers: what counts, and how a ratio is paired."""

from typing import Any

from bench.beside import LOST, Work, lost_by, page


def found(rate: float, lost: float = 0.0, **more: Any) -> dict[str, Any]:
    return {what: {"rows_per_s": rate, "lost": lost} for what in ("train", "score")} | more


def test_ratios_are_of_a_round_and_what_lost_its_cores_is_left_out() -> None:
    """Of three rounds, in the last one others had a part of the cores."""
    of_floor: dict[str, Any] = {
        "floor": dict.fromkeys(("train", "score"), 100.0),
        "share": dict.fromkeys(("train", "score"), 0.8),
    }
    known = {Work("funnelcast", "esmm", 5, 1, turn): found(rate, **of_floor) for turn, rate in enumerate((50, 90))}
    known[Work("funnelcast", "esmm", 5, 1, 2)] = found(900, bfloat16=found(900, 2 * LOST), **of_floor)
    known |= {Work("deepctr-torch", "esmm", 5, 1, turn): found(rate) for turn, rate in enumerate((10, 30, 1))}
    text = page(known, "", "small", 1000)
    assert "1 of 6 measurements do not count" in text
    assert "| esmm | 5 | 100 | funnelcast | 70 (50 – 90) | 80% |  |" in text
    assert "| 20% | 4.00 |" in text  # 50 / 10 and 90 / 30


def test_half_the_bits_are_held_against_all_by_their_shares_of_the_floor() -> None:
    """Not by rates, which are of other minutes."""
    floor = dict.fromkeys(("train", "score"), 100.0)
    shares: Any = (dict.fromkeys(("train", "score"), share) for share in (0.8, 1.6))
    own, half = ({"floor": floor, "share": share} for share in shares)
    work = Work("funnelcast", "mmoe", 5, 1, 0)
    text = page({work: found(80, **own, bfloat16=found(80, **half))}, "", "small", 1000)
    assert "| funnelcast, bfloat16 | 80 (80 – 80) | 160% | 0.50 |" in text


def test_a_part_of_half_the_bits_counts_too() -> None:
    assert lost_by(found(1, 0.01, bfloat16=found(1, 0.2))) == 0.2
