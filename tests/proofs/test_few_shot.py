"""What `scripts/proof few-shot` demands, and what it keeps out of Census; slow: a small share of it."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from funnelcast.data.columns import Columns
from funnelcast.data.encoder import Encoder
from funnelcast.data.files import new_folder
from funnelcast.data.table import PARTS, Table
from funnelcast.data.table_writer import TableWriter
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.fewshot.protocol import SIZES, Figures, Measured
from funnelcast.fewshot.standard_methods import META, META_ADAPTED, OFFSET, PLAIN
from funnelcast.schema.dataset import Schema
from proofs import few_shot_census
from proofs.few_shot import BETTER, _is_better, _is_harmless, few_shot
from proofs.few_shot_census import STATE, states_kept_out, task_of, without
from tests.proofs.in_process import commands_in_this_process

STATES = ["Abroad", "Iowa", "Maine", "Not in universe", "Ohio", "Utah"]
COUNTS = [90, 70, 20, 500, 60, 40]


def measured(output: str, adapted: list[float], meta: float = 0.0, offset: float = 0.0) -> Measured:
    """Gains over the plain network of 5 tasks that hardly differ."""

    def figures(gains: list[float]) -> Figures:
        losses = 1 - np.array(gains)[:, None] + 1e-4 * np.sin(np.arange(5) + len(gains))
        return Figures(losses, losses, losses)

    gains = {META_ADAPTED: adapted, META: [meta] * 5, OFFSET: [offset] * 5, PLAIN: [0.0] * 5}
    by_method = {name: figures(each) for name, each in gains.items()}
    noise = 1e-4 * np.cos(np.arange(5))
    by_method[META_ADAPTED] = Figures(*(values + noise for values in by_method[META_ADAPTED]))
    return Measured(output, SIZES, tuple("abcde"), by_method)


def test_bars_of_clicks() -> None:
    assert BETTER["click"] == (64, 256, 1024)
    good = [0.0, 0.0, 0.01, 0.02, 0.03]
    assert _is_better(measured("click", good))
    assert not _is_better(measured("click", [0, -0.01, 0.01, 0.02, 0.03]))
    assert not _is_better(measured("click", [0, 0.01, 0.0, 0.02, 0.03]))
    assert not _is_better(measured("click", good, meta=0.015))
    assert not _is_better(measured("click", good, offset=0.03))
    assert _is_better(measured("click", good, offset=0.025))


def test_bars_of_conversions_and_of_the_control() -> None:
    assert _is_better(measured("conversion_given_click", [0, 0, 0, 0.02, 0.03], offset=0.1))
    assert not _is_better(measured("conversion_given_click", [0, 0, 0, 0, 0.03]))
    assert _is_harmless(measured("click", [0.0] * 5))
    assert not _is_harmless(measured("click", [0, 0, 0, -0.01, 0]))


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    """People with a state, a number of their own and labels, in three parts."""
    monkeypatch.setattr(few_shot_census, "LEAST", 30)
    monkeypatch.setattr(few_shot_census, "SIZES", (0, 10))
    features = {"age": "categorical", STATE: "categorical"}
    schema = Schema.from_dict({"name": "people", "funnel": "marital; income", "features": features})
    ages = Vocabulary(pa.array(range(sum(COUNTS))))
    state = np.random.default_rng(0).permutation(np.repeat(np.arange(6), COUNTS)) + 1
    ids = np.stack([np.arange(len(state)) + 1, state], 1).astype(np.int32)
    labels = np.stack([state % 2, ids[:, 0] % 2], 1).astype(np.uint8)
    with new_folder(tmp_path / "whole") as partial, TableWriter(partial) as writer:
        for part, rows in zip(PARTS, np.array_split(np.arange(len(ids)), 3), strict=True):
            writer.part(part).append(Columns(ids[rows], np.zeros((len(rows), 0), np.float32), labels=labels[rows]))
        writer.finish(Encoder(schema, {"age": ages, STATE: Vocabulary(pa.array(STATES))}, {}), {})
    return Table.open(tmp_path / "whole")


def test_every_other_state_with_enough_people_is_kept_out(table: Table, tmp_path: Path) -> None:
    held_out = states_kept_out(table, 1)
    assert [STATES[i - 1] for i in held_out] == ["Iowa", "Utah"]
    rest = without(table, 1, held_out, tmp_path / "rest")
    kept = np.concatenate([rest.part(part).ids for part in PARTS])
    assert set(kept[:, 1].tolist()) == {1, 3, 4, 5} and len(kept) == sum(COUNTS) - 110
    task = task_of(table, 1, held_out[0])
    assert task.name == "Iowa" and len(task.support) == 10 and len(task.query) == 60
    mine = np.concatenate([task.support.ids, task.query.ids])
    assert not mine[:, 1].any() and not np.isin(mine[:, 0], kept[:, 0]).any() and len(set(mine[:, 0].tolist())) == 70
    labels = np.concatenate([rows.labels for rows in (task.support, task.query) if rows.labels is not None])
    assert np.array_equal(labels[:, 1], mine[:, 0] % 2) and not labels[:, 0].any()


@pytest.mark.slow
def test_a_small_share_of_the_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands_in_this_process(monkeypatch)
    assert few_shot(small=True, folder=tmp_path)
    for name in ("click", "conversion_given_click", "alike-click", "alike-conversion_given_click"):
        assert (tmp_path / f"{name}.svg").is_file() and (tmp_path / f"{name}.png").is_file()
        written = json.loads((tmp_path / f"{name}.json").read_text())
        for method in written["methods"].values():
            assert all(np.isfinite(of_size["estimate"]) for of_size in method["log_loss"])
