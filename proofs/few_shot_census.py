"""Few-shot on Census-Income: the income of people who moved from states that were kept out of training."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from funnelcast.data.columns import Columns
from funnelcast.data.files import new_folder
from funnelcast.data.table import PARTS, Table
from funnelcast.data.table_writer import TableWriter
from funnelcast.fewshot.protocol import Measured, measure
from funnelcast.fewshot.standard_methods import standard_methods
from funnelcast.fewshot.tasks import Task, TaskOutput
from funnelcast.serving.bundle import Bundle
from harness.cost import cost
from proofs.compared import EXPERIMENTS, train

STATE = "state_prev_res"
NO_STATES = ("Not in universe", "?", "Abroad")
"""Whoever has not moved, or from nowhere known."""
LEAST = 250
"""Rows of a state that can be kept out: every other one of them is."""
SIZES = (0, 16, 64, 128)


def census_states(folder: Path) -> Measured:
    """Both networks on all people but those from the states kept out, and the protocol on these."""
    whole = _prepared(folder / "whole")
    place = [name for name, _ in whole.encoder.inputs.fields].index(STATE)
    held_out = states_kept_out(whole, place)
    table = without(whole, place, held_out, folder / "table")
    target, rows = TaskOutput.of(table.schema.funnel, "income"), table.part("train")
    names = {"meta": "states-meta", "plain": "shared-bottom"}
    runs = {k: train(EXPERIMENTS / "census" / f"{name}.toml", table.folder, folder / k, 1) for k, name in names.items()}
    meta, plain = (Bundle.load(runs[kind].bundles[0]) for kind in names)
    methods = standard_methods(meta, plain, target, rows, np.asarray(rows.ids[:, place]))
    tasks = [task_of(whole, place, state) for state in held_out]
    return measure(tasks, methods, target, SIZES, os.cpu_count() or 1)


def _prepared(folder: Path) -> Table:
    if not (folder / "manifest.json").is_file():
        cost("datasets", "census-income", folder)
    return Table.open(folder)


def states_kept_out(table: Table, place: int) -> list[int]:
    """Ids of every other state among those with enough rows in all parts together, by their size."""
    states = table.encoder.vocabularies[STATE].values.to_pylist()
    ids = np.concatenate([table.part(part).ids[:, place] for part in PARTS])
    counts = np.bincount(ids, minlength=len(states) + 1)
    able = [i for i in range(1, len(states) + 1) if counts[i] >= LEAST and states[i - 1] not in NO_STATES]
    return sorted(able, key=lambda i: -counts[i])[::2]


def without(table: Table, place: int, held_out: list[int], folder: Path) -> Table:
    """The table without the rows of the states kept out; made unless it is there."""
    if not (folder / "manifest.json").is_file():
        with new_folder(folder) as partial, TableWriter(partial) as writer:
            for part in PARTS:
                rows = table.part(part)
                kept = np.flatnonzero(~np.isin(rows.ids[:, place], held_out))
                writer.part(part).append(rows.take(kept))
            writer.finish(table.encoder, {})
    return Table.open(folder)


def task_of(table: Table, place: int, state: int, seed: int = 0) -> Task:
    """The people of a state, of all parts, as a network sees them that has never met the state."""
    parts = [_of_state(table.part(part), place, state) for part in PARTS]
    ids, numeric = (np.concatenate([getattr(part, name) for part in parts]) for name in ("ids", "numeric"))
    ids[:, place] = 0
    rows = Columns(ids, numeric, labels=np.concatenate([_labels(part) for part in parts]))
    order = np.random.default_rng([seed, state]).permutation(len(rows))
    name = str(table.encoder.vocabularies[STATE].values[state - 1])
    return Task(name, rows.take(order[: SIZES[-1]]), rows.take(order[SIZES[-1] :]))


def _of_state(rows: Columns, place: int, state: int) -> Columns:
    return rows.take(np.flatnonzero(rows.ids[:, place] == state))


def _labels(rows: Columns) -> NDArray[np.uint8]:
    assert rows.labels is not None
    return rows.labels
