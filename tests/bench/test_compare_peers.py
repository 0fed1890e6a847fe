"""The page beside the peers: what counts, and how a ratio is paired; and how a rival's process takes turns."""

import subprocess
import sys
import time
from typing import Any

import pytest

from bench import interleaved
from bench.compare_peers import LOST, Work, lost_by, page
from bench.floor import Floor, Products
from bench.rival import LEAST, Rival

WORKING = """
import json, sys, time
for word in sys.stdin:
    started, until = time.process_time(), {cpu} if word == "run\\n" else 0
    while time.process_time() - started < until:
        pass
    print(json.dumps({{"cpu": time.process_time() - started}}), flush=True)
"""
"""Computes for so many seconds of its own when it is to run."""


def found(rate: float, lost: float = 0.0, share: float = 0.8, **peers: tuple[float, float]) -> dict[str, Any]:
    """What one measurement gives; `peers`: their rates, and ours in the same turns."""
    beside = {peer: {"rows_per_s": own, "ours": ours, "floor": 100.0} for peer, (own, ours) in peers.items()}
    own = {"rows_per_s": rate, "lost": lost, "floor": 100.0, "share": share, "beside": beside}
    return {"train": own, "score": own, "peers": {peer: {"version": "1", "note": "as it is"} for peer in peers}}


def test_ratios_are_of_the_same_turns_and_what_lost_its_cores_is_left_out() -> None:
    """Of three rounds, in the last one others had a part of the cores."""
    rounds = [found(50, peer=(10, 40)), found(90, peer=(30, 90)), found(900, peer=(1, 900))]
    rounds[2]["bfloat16"] = found(900, 2 * LOST)
    text = page({Work("esmm", 5, 1, turn): each for turn, each in enumerate(rounds)}, "Page", "", "small", 1000)
    assert "1 of 3 measurements do not count" in text
    assert "| esmm | 5 | 100 | funnelcast | 70 (50 – 90) | 80% |  |" in text
    assert "| peer | 20 (10 – 30) | 20% | 3.50 |" in text  # 40 / 10 and 90 / 30
    assert "- peer, esmm: as it is" in text


def test_half_the_bits_are_held_against_all_by_their_shares_of_the_floor() -> None:
    """Not by rates, which are of other minutes."""
    own = found(80) | {"bfloat16": found(80, share=1.6)}
    text = page({Work("mmoe", 5, 1, 0): own}, "Page", "", "small", 1000)
    assert "| funnelcast, bfloat16 | 80 (80 – 80) | 160% | 0.50 |" in text


def test_a_part_of_half_the_bits_counts_too() -> None:
    assert lost_by(found(1, 0.01) | {"bfloat16": found(1, 0.2)}) == 0.2


def test_a_rival_works_in_its_spells_alone() -> None:
    """0.3 seconds of work in spells of 0.1, between which it is stopped for as long."""
    with Rival([sys.executable, "-c", WORKING.format(cpu=0.3)]) as rival:
        assert rival.prepare()["cpu"] < 0.1 and rival.is_done
        rival.begin(repeated=False)
        while not rival.is_done:
            rival.spell(0.1)
            time.sleep(0.1)
        assert rival.passes == 1 and rival.spells >= 3
        assert 0.3 <= rival.cpu <= rival.seconds + 0.02  # the clock of a process has its ticks
        spells = rival.spells
        rival.spell(0.1)  # nothing is left
        assert rival.spells == spells


@pytest.mark.slow
def test_a_rival_is_held_against_the_turns_that_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not against the first one, which warms up, nor those after it was done."""
    monkeypatch.setattr(interleaved, "SPELL", 0.05)
    with Rival([sys.executable, "-c", WORKING.format(cpu=0.12)]) as rival:
        rival.prepare()
        rival.begin(repeated=False)
        measured = interleaved.InterleavedRates(Floor([Products(1, 8, 4, 4, shared=False)], 8), [rival])
        measured.add(1000.0)
        assert rival.spells == 0
        while not measured.enough(20):
            measured.add(1000.0 * 2 ** len(measured.rates))
        (beside,) = measured.found()["beside"]
    assert 3 <= rival.spells < 20 and len(measured.rates) == 21
    had = slice(1, 1 + rival.spells)
    assert beside["ours"] == sum(measured.rates[had]) / rival.spells
    around = zip(measured.floors[had], measured.floors[2 : 2 + rival.spells], strict=True)
    assert beside["floor"] == pytest.approx(sum(before + after for before, after in around) / (2 * rival.spells))


@pytest.mark.slow
def test_short_work_is_repeated() -> None:
    with Rival([sys.executable, "-c", WORKING.format(cpu=LEAST / 10)]) as rival:
        rival.prepare()
        rival.begin(repeated=True)
        while not rival.is_done:
            rival.spell(LEAST)
        assert rival.seconds >= LEAST and 1 < rival.passes <= 10
        rival.prepare()
        assert rival.seconds == 0 and rival.passes == 0


def test_a_rival_that_fails_says_so() -> None:
    command = [sys.executable, "-c", "import sys; sys.stdin.readline(); sys.exit(3)"]
    with Rival(command) as rival, pytest.raises(subprocess.CalledProcessError) as failed:
        rival.prepare()
    assert failed.value.returncode == 3
