"""Rows of many adapted networks at once: each has the numbers of its own, over one base."""

import gc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from funnelcast.evaluation.score import CHUNK
from funnelcast.serving.delta import Delta
from funnelcast.serving.deltas import BLOCK
from funnelcast.serving.predictor import Predictor
from tests import tiny
from tests.serving.adapted import FEW, adaptable, base, copied, delta, empty, p_of, support, with_columns

CAMPAIGNS = ["a", "b", "c", "d", None]
LOG = with_columns(tiny.draw_log(50), campaign=CAMPAIGNS * 10)
A, B, OTHERS = slice(0, 50, 5), slice(1, 50, 5), np.arange(50) % 5 > 1


@cache
def several() -> Predictor:
    """An adapted network for a and for b, and an empty delta for c."""
    return base().with_deltas([delta("b", reached=0.1), empty("c"), delta("a")])


def test_rows_without_a_delta_have_the_numbers_of_the_base_bit_for_bit() -> None:
    own, found = p_of(base(), LOG), p_of(several(), LOG)
    assert np.array_equal(found[OTHERS], own[OTHERS])
    assert all((found[its] != own[its]).all() and abs(found - own)[its].mean() > 1e-3 for its in (A, B))


def test_rows_with_one_have_those_of_a_network_with_its_parameters() -> None:
    found = p_of(several(), LOG)
    np.testing.assert_allclose(found[A], p_of(copied(delta("a")), LOG)[A], rtol=1e-5)
    np.testing.assert_allclose(found[B], p_of(copied(delta("b", reached=0.1)), LOG)[B], rtol=1e-5)
    of_all = base().with_deltas(delta())
    assert of_all.key is None and several().key == "campaign"
    np.testing.assert_allclose(p_of(of_all, LOG), p_of(copied(delta()), LOG), rtol=1e-5)


def test_sampled_negatives_are_undone_for_adapted_rows_too() -> None:
    sampled = Predictor(adaptable(keep_negatives=0.2)).with_deltas(delta("a"))
    odds = [p[:, 0] / (1 - p[:, 0]) for p in (p_of(sampled, LOG), p_of(base().with_deltas(delta("a")), LOG))]
    np.testing.assert_allclose(odds[0], 0.2 * odds[1], rtol=1e-4)


def test_what_a_row_gets_does_not_depend_on_its_neighbours() -> None:
    order = np.random.default_rng(0).permutation(50)
    np.testing.assert_allclose(p_of(several(), LOG.take(order)), p_of(several(), LOG)[order], rtol=1e-5)
    for i in (0, 1, 2, 4):
        np.testing.assert_allclose(p_of(several(), LOG.slice(i, 1)), p_of(several(), LOG)[i : i + 1], rtol=1e-5)
    assert len(p_of(several(), LOG.slice(0, 0))) == 0


def test_a_predictor_takes_these_deltas_and_no_others() -> None:
    assert several().with_deltas([]).predict(LOG).equals(base().predict(LOG))
    assert base().with_deltas([empty("a"), empty("b")]).predict(LOG).equals(base().predict(LOG))
    assert several().adapt(support(), FEW).losses == base().adapt(support(), FEW).losses


def large(rows: int) -> tuple[pa.Table, NDArray[np.str_]]:
    """Rows of which the first third has the delta of a, and the rest those of all campaigns in turn."""
    log = pa.concat_tables([tiny.draw_log(5000)] * (rows // 5000 + 1)).slice(0, rows)
    campaign = np.where(np.arange(rows) < rows // 3, "a", np.array(["a", "b", "c", "d"])[np.arange(rows) % 4])
    return with_columns(log, campaign=campaign), campaign


@pytest.mark.parametrize("rows", [3 * CHUNK + 5, pytest.param(BLOCK + BLOCK // 2 + 7, marks=pytest.mark.slow)])
def test_many_rows(rows: int) -> None:
    """Across the chunks of a network, and the blocks that are embedded at once."""
    log, campaign = large(rows)
    found, own = p_of(several(), log), p_of(base(), log)
    for value, expected in {"a": copied(delta("a")), "b": copied(delta("b", reached=0.1))}.items():
        where = campaign == value
        np.testing.assert_allclose(found[where], p_of(expected, log)[where], rtol=1e-5)
    rest = (campaign == "c") | (campaign == "d")
    assert np.array_equal(found[rest], own[rest])


def test_chunks_without_a_row_of_the_base_change_nothing() -> None:
    """Only the second of three chunks goes through the base."""
    log = with_columns(large(3 * CHUNK)[0], campaign=np.repeat(["a", "d", "b"], CHUNK))
    found, middle = p_of(several(), log), slice(CHUNK, 2 * CHUNK)
    assert np.array_equal(found[middle], p_of(base(), log)[middle])
    np.testing.assert_allclose(found[:CHUNK], p_of(copied(delta("a")), log)[:CHUNK], rtol=1e-5)


def test_threads_do_not_meet() -> None:
    logs = [with_columns(tiny.draw_log(300, seed), campaign=CAMPAIGNS * 60) for seed in range(4)]
    expected = [p_of(several(), log) for log in logs]
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(p_of, several(), logs[i % 4]) for i in range(40)]
    assert all(np.array_equal(each.result(), expected[i % 4]) for i, each in enumerate(found))


def held() -> int:
    """Bytes of all tensors."""
    gc.collect()
    storages = [each.untyped_storage() for each in gc.get_objects() if type(each) in (torch.Tensor, torch.nn.Parameter)]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


@pytest.mark.slow
def test_a_thousand_deltas_hold_their_own_numbers_alone() -> None:
    """What predicting with them adds is less than one copy of the base."""
    before = held()
    predictor = Predictor(adaptable(tiny.fitted_encoder(users=20_000)))
    size = held() - before
    assert size > 160_000
    deltas = [own_numbers(predictor, i) for i in range(1000)]
    own = held() - before - size
    log = with_columns(tiny.draw_log(100), campaign=range(100))
    many = predictor.with_deltas(deltas)
    assert not many.predict(log).equals(predictor.predict(log))
    assert many.deltas[999] is deltas[999] and own < 1000 * size / 20
    assert held() - before - size - own < size / 4


def own_numbers(predictor: Predictor, i: int) -> Delta:
    changes = {name: change.clone() for name, change in delta().changes.items()}
    return replace(delta(), base=predictor.bundle.fingerprint, key={"campaign": str(i)}, changes=changes)
