"""The processes of sequences: what tells the label, what must not, and that the control destroys it."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from funnelcast.data.columns import Columns
from proofs.simulators.sequences import GROUP_SIZE, GROUPS, LONGEST, SequenceSimulator

Signal = Literal["match", "order"]
ROWS = 20_000
both = pytest.mark.parametrize("signal", ["match", "order"])


def signals(simulator: SequenceSimulator, columns: Columns) -> dict[str, list[bool]]:
    """By row, read off the ids: whether the history has the target's group, and whether its newest sign is 1."""
    group = {int(i): g for g, signs in enumerate(simulator.items) for i in signs.flatten()}
    sign = {int(i): s for signs in simulator.items for s in (0, 1) for i in signs[s]}
    lists, match, order = columns.ragged["history"], [], []
    for row, (target,) in enumerate(columns.ids - 1):
        history = (lists.ids[lists.offsets[row] : lists.offsets[row + 1]] - 1).tolist()
        groups, signs = [group[i] for i in history], [sign[i] for i in history]
        assert 4 <= len(history) <= LONGEST and len(set(groups)) == len(groups) and 2 * sum(signs) == len(signs)
        match.append(group[int(target)] in groups)
        order.append(signs[-1] == 1)
    return {"match": match, "order": order}


@both
def test_the_signal_decides_the_probability_and_nothing_else_tells_it(signal: Signal) -> None:
    simulator = SequenceSimulator(signal, 1)
    columns, p = simulator.sample(ROWS)
    found = signals(simulator, columns)
    high, low = 0.5, 1 / (1 + np.e**2)
    np.testing.assert_allclose(p, np.where(found[signal], high, low))
    other = np.array(found["order" if signal == "match" else "match"])
    assert abs(p[other].mean() - p[~other].mean()) < 5 * p.std() * 2 / ROWS**0.5
    assert abs(np.mean(found[signal]) - 0.5) < 0.02
    lengths = np.diff(columns.ragged["history"].offsets)
    for values in (lengths, columns.ids[:, 0]):  # single items, and how many there are, tell nothing
        assert abs(np.corrcoef(values, p)[0, 1]) < 0.03
    assert columns.labels is not None
    click, conversion = columns.labels.T == 1
    assert abs(click.mean() - p.mean()) < 0.02 and not (conversion & ~click).any()
    assert abs(conversion[click].mean() - p[click].mean()) < 0.03


@both
def test_shuffled_histories_have_no_signal(signal: Signal) -> None:
    simulator = SequenceSimulator(signal, 1, shuffled=True)
    columns, p = simulator.sample(ROWS)
    seen = np.array(signals(simulator, columns)[signal])
    assert abs(p[seen].mean() - p[~seen].mean()) < 5 * p.std() * 2 / ROWS**0.5


def test_samples_by_seed_and_part() -> None:
    first, second = (SequenceSimulator("match", 3).sample(50)[0] for _ in range(2))
    assert np.array_equal(first.ids, second.ids) and np.array_equal(
        first.ragged["history"].ids, second.ragged["history"].ids
    )
    assert not np.array_equal(first.ids, SequenceSimulator("match", 3).sample(50, part=1)[0].ids)
    assert not np.array_equal(first.ids, SequenceSimulator("match", 4).sample(50)[0].ids)


def test_the_table_has_the_rows_and_the_truth(tmp_path: Path) -> None:
    simulator = SequenceSimulator("order", 2)
    table = simulator.write_table(tmp_path / "t", 60, 20, 30)
    columns, p = simulator.sample(30, 2)
    read = table.part("test")
    assert np.array_equal(read.ids, columns.ids) and np.array_equal(
        read.ragged["history"].ids, columns.ragged["history"].ids
    )
    assert np.array_equal(table.side("test")["true_p_click"].to_numpy(), p)
    assert table.encoder.inputs.sizes == {"item": GROUPS * GROUP_SIZE + 1}
