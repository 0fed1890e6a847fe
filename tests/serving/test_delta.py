"""What adapting a bundle yields, and how exactly a delta holds it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from funnelcast.data.batch import Batch
from funnelcast.errors import DeltaError, FunnelcastError, InputError
from funnelcast.models.network import TOP
from funnelcast.serving.adapt import _filled
from funnelcast.serving.delta import SMALL, Delta, read_deltas
from funnelcast.serving.predictor import Predictor
from funnelcast.training.adaptation import Adapted, adapt
from funnelcast.training.adapting import Adapting
from tests import tiny
from tests.layers.inputs import source
from tests.serving.adapted import FEW, STARTING, base, delta, network, support, with_columns
from tests.serving.test_bundle import bundle_of

PLAIN = Delta("b" * 12, {}, 9, 0, {}, [0.5, 0.4], steps=1)


def test_it_holds_what_adapting_the_network_changes() -> None:
    """By labels and weights that the rows have; those of two contradict the funnel."""
    rows = support(rows=60)
    labels = {"click": [0, 0, *rows["click"].to_pylist()[2:]], "conversion": [1, 1, *rows["click"].to_pylist()[2:]]}
    found, kept = base().adapt(with_columns(rows, **labels), FEW), rows.slice(2)
    assert (found.base, found.key, found.rows, found.dropped) == (base().bundle.fingerprint, {}, 58, 2)
    reached = sum(kept["click"].to_pylist())
    assert found.positives == {"click": reached, "conversion": reached}
    assert len(found.losses) == 4 and found.steps == int(np.argmin(found.losses)) > 0 and not found.reason
    model = network(base().bundle)
    expected = adapt(model, STARTING, Batch.of(tiny.encoded(kept, base().bundle.encoder)), FEW)
    assert found.losses == pytest.approx(expected.losses) and found.changes.keys() == model.groups(TOP).keys()
    for name, value in found.parameters(model.state_dict()).items():
        torch.testing.assert_close(value, expected.parameters[name], rtol=1e-6, atol=1e-7)


def test_adapting_leaves_the_bundle_as_it_is() -> None:
    before, log = network(base().bundle).fingerprint, tiny.draw_log(20)
    expected = base().predict(log)
    base().adapt(support(), Adapting(steps=2, folds=2, inner="all", learning_rate=1.0))
    assert network(base().bundle).fingerprint == before and base().predict(log).equals(expected)


def test_every_form_of_the_rows_gives_the_same_delta() -> None:
    rows, expected = support(), delta()
    for form in (rows.to_pandas(), rows.to_pydict(), rows.to_batches()[0]):
        found = base().adapt(form, FEW)
        assert found.losses == expected.losses
        assert all(torch.equal(change, expected.changes[name]) for name, change in found.changes.items())


def test_a_key_takes_its_rows_where_they_have_its_column() -> None:
    rows = with_columns(support(), campaign=["a", "b", None] * 20)
    of_a = base().adapt(rows, FEW, {"campaign": "a"})
    assert (of_a.rows, of_a.key) == (20, {"campaign": "a"})
    alone = base().adapt(rows.take(list(range(0, 60, 3))), FEW, {"region": "x"})
    assert (alone.rows, alone.losses, alone.key) == (20, of_a.losses, {"region": "x"})
    with pytest.raises(InputError, match="no row has campaign = 'aa'; did you mean 'a'?"):
        base().adapt(rows, FEW, {"campaign": "aa"})
    with pytest.raises(InputError, match="a key is one column and its value, not 2; join the columns to one"):
        base().adapt(rows, FEW, {"campaign": "a", "region": "x"})
    number: Any = {"campaign": 7}
    with pytest.raises(InputError, match="the value of a key is text, not 7; write {'campaign': '7'}"):
        base().adapt(rows, FEW, number)


def test_it_is_empty_where_no_step_helps() -> None:
    found = base().adapt(support(), Adapting(steps=2, folds=2, learning_rate=1e-30, offsets=False))
    assert found.is_empty and found.steps == 0 and found.reason.startswith("no step lowers the held-out loss of ")
    log = tiny.draw_log(30)
    assert base().with_deltas(found).predict(log).equals(base().predict(log))


def test_it_is_empty_where_steps_on_all_rows_diverge() -> None:
    far = Adapted({"output.bias": torch.tensor([[torch.inf], [0.0]])}, 1, [0.5, 0.4])
    found = _filled(PLAIN, network(base().bundle), far, {})
    assert found.is_empty and found.reason == "steps on all rows diverge; set a lower learning_rate"


def test_what_has_no_network_has_nothing_to_adapt() -> None:
    with pytest.raises(FunnelcastError, match="holds man, which has no parameters to adapt; train a network"):
        Predictor(bundle_of()).adapt(support())


@pytest.mark.parametrize("size", [1e-6, 1.0, 3e4])
def test_numbers_keep_11_bits_and_those_of_small_tensors_all(size: float) -> None:
    large, small = (size * torch.randn(n, generator=source(n)) for n in (SMALL + 1, SMALL))
    large[:64] *= 2.0 ** -torch.arange(64)
    found = PLAIN.with_changes({"large": large, "small": small, "none": torch.zeros(9)}, {})
    assert found.changes.keys() == {"large", "small"} and not found.is_empty
    assert (found.changes["large"].dtype, found.changes["small"].dtype) == (torch.float16, torch.float32)
    assert float(np.log2(found.scale)).is_integer()
    assert 2**14 <= max(float(t.abs().max()) for t in found.changes.values()) <= 2**15
    back = found.parameters({"large": torch.zeros(SMALL + 1), "small": torch.ones(SMALL)})
    assert torch.equal(back["small"], 1 + small)
    is_kept = large.abs() >= 2.0**-28 * float(max(large.abs().max(), small.abs().max()))
    assert 20 < int((~is_kept).sum()) < 64
    assert ((back["large"] - large).abs() <= 2.0**-11 * large.abs())[is_kept].all()


def test_rows_that_did_not_move_are_left_out() -> None:
    rows = torch.tensor([[0.5, -0.25], [0.0, 0.0], [0.0, 1e-20], [0.0, 3.0]])
    still = (pa.array(["x"]), torch.zeros(1, 2))
    found = PLAIN.with_changes({}, {"item": (pa.array([7, 8, 9, 10]), rows), "user": still})
    assert found.new_ids["item"].to_pylist() == [7, 10] and not found.is_empty
    assert found.new_ids.keys() == found.new_rows.keys() == {"item"}
    assert torch.equal(found.of_base(found.new_rows["item"], rows), rows[[0, 3]])
    assert PLAIN.with_changes({"a": torch.zeros(3)}, {"user": still}).is_empty


def test_deltas_are_read_from_files_folders_and_lists(tmp_path: Path) -> None:
    keyed = [replace(PLAIN, key={"campaign": value}) for value in "abc"]
    for each in keyed[:2]:
        each.save(tmp_path / f"{each.key['campaign']}.safetensors")
    (tmp_path / "deltas.json").write_text("{}")
    found = read_deltas([tmp_path, keyed[2], str(tmp_path / "b.safetensors")])
    assert [each.key["campaign"] for each in found] == ["a", "b", "c", "b"]
    assert [each.key for each in read_deltas(tmp_path)] == [{"campaign": "a"}, {"campaign": "b"}]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DeltaError, match="has no delta, no file that ends in .safetensors; make some with"):
        read_deltas(tmp_path / "empty")
