"""Deltas on disk: what is saved is what is loaded, only what changed is there, and every damage is told."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from funnelcast.errors import DeltaError, FunnelcastError
from funnelcast.models.network import TOP
from funnelcast.serving.delta import Delta
from funnelcast.serving.predictor import Predictor
from funnelcast.training.adapting import Adapting
from tests import tiny
from tests.serving.adapted import FEW, adaptable, base, delta, empty, network, support

NAME = "Größe 1/2"


@pytest.fixture(scope="module")
def whole() -> Delta:
    """With new ids."""
    found = base().adapt(support(item=[7, 99, 98] * 20, campaign=NAME), Adapting(steps=3, folds=2), {"campaign": NAME})
    assert found.changes and found.new_rows.keys() == {"item", "user"} and 98 in found.new_ids["item"].to_pylist()
    return found


@pytest.fixture(scope="module")
def saved(whole: Delta, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("delta") / "one.safetensors"
    whole.save(path)
    return path


def test_a_loaded_delta_predicts_bit_by_bit_what_the_saved_one_did(whole: Delta, saved: Path) -> None:
    loaded, log = Delta.load(saved), support(item=[7, 99, 98] * 20, campaign=NAME, seed=1)
    assert base().with_deltas(loaded).predict(log).equals(base().with_deltas(whole).predict(log))
    assert not base().with_deltas(loaded).predict(log).equals(base().predict(log))


@pytest.mark.parametrize("kind", ["whole", "empty"])
def test_all_of_it_is_there_again(whole: Delta, tmp_path: Path, kind: str) -> None:
    before = whole if kind == "whole" else empty("x")
    before.save(str(tmp_path / "folder/one.safetensors"))
    after = Delta.load(str(tmp_path / "folder/one.safetensors"))
    for field in fields(Delta):
        a, b = getattr(before, field.name), getattr(after, field.name)
        if field.name in ("changes", "new_rows"):
            assert a.keys() == b.keys() and all(
                torch.equal(t, b[name]) and t.dtype == b[name].dtype for name, t in a.items()
            )
        else:
            assert a == b, field.name
    assert after.is_empty == (kind == "empty")


def test_only_what_changed_is_in_the_file(tmp_path: Path, whole: Delta, saved: Path) -> None:
    """Of a bundle of many users, the rows of the new ones and the top alone."""
    predictor = Predictor(adaptable(tiny.fitted_encoder(users=20_000)))
    predictor.adapt(support(), FEW).save(tmp_path / "one.safetensors")
    with safe_open(tmp_path / "one.safetensors", "pt") as file:
        assert set(file.keys()) == {f"change.{name}" for name in network(predictor.bundle).groups(TOP)}
    predictor.bundle.save(tmp_path / "bundle")
    size = sum(path.stat().st_size for path in (tmp_path / "bundle").rglob("*") if path.is_file())
    assert (tmp_path / "one.safetensors").stat().st_size < size / 20
    new = {name: (len(ids), 3 if name == "item" else 2) for name, ids in whole.new_ids.items()}
    assert {n: tuple(t.shape) for n, t in load_file(saved).items() if n.startswith("new.")} == {
        f"new.{name}": shape for name, shape in new.items()
    }


def damaged(saved: Path, tmp_path: Path, content: bytes) -> str:
    path = tmp_path / saved.name
    path.write_bytes(content)
    with pytest.raises(DeltaError) as caught:
        Delta.load(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_flipped_byte(saved: Path, tmp_path: Path) -> None:
    content = saved.read_bytes()
    offsets = np.random.default_rng(0).choice(len(content), 200, replace=False)
    for place in [*range(48), *map(int, offsets)]:
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 7
        message = damaged(saved, tmp_path, bytes(flipped))
        assert any(fix in message for fix in ("adapt again", "make one with: funnelcast adapt")), message


def test_a_cut_file(saved: Path, tmp_path: Path) -> None:
    content = saved.read_bytes()
    for length in (0, 1, 8, len(content) // 2, len(content) - 1):
        assert "adapt again, or restore it from a copy" in damaged(saved, tmp_path, content[:length])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: save_file({"a": torch.ones(2)}, path), "holds tensors, but is no delta; make one with"),
        (
            lambda path: save_file({"a": torch.ones(2)}, path, {"delta": "2"}),
            "has delta format 2, this version reads 1",
        ),
        (lambda path: save_file({"a": torch.ones(2)}, path, {"delta": "1"}), "differs from its checksum; adapt again"),
        (lambda path: path.write_text("user,item\n1,2\n"), "is damaged"),
        (lambda path: None, "is not a file; make a delta with: funnelcast adapt"),
    ],
    ids=["tensors", "newer", "no checksum", "text", "nothing"],
)
def test_what_is_no_delta(tmp_path: Path, write: Callable[[Path], object], message: str) -> None:
    write(tmp_path / "one.safetensors")
    with pytest.raises(DeltaError, match=message):
        Delta.load(tmp_path / "one.safetensors")
    with pytest.raises(DeltaError, match=message):
        base().with_deltas(tmp_path / "one.safetensors")


def test_an_existing_delta_is_replaced_on_demand_only(tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    delta().save(path)
    with pytest.raises(FunnelcastError, match="exists already; choose another place, or replace it with --replace"):
        empty("x").save(path)
    assert Delta.load(path).key == {}
    empty("x").save(path, replace=True)
    assert Delta.load(path).key == {"campaign": "x"} and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DeltaError, match="one.st must end in .safetensors, as deltas do"):
        delta().save(tmp_path / "one.st")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(OSError, match="folder.safetensors"):
        delta().save(tmp_path / "folder.safetensors", replace=True)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.safetensors"]


def test_a_delta_of_another_bundle(tmp_path: Path) -> None:
    other = Predictor(adaptable(seed=1))
    ours, theirs = base().bundle.fingerprint, other.bundle.fingerprint
    fix = f"of the bundle {ours}, not of {theirs}; load that one, or adapt this one"
    delta().save(tmp_path / "one.safetensors")
    for given in (delta(), tmp_path / "one.safetensors"):
        with pytest.raises(DeltaError, match=f"the delta for all rows is {fix}"):
            other.with_deltas(given)
    with pytest.raises(DeltaError, match=f"the delta for campaign = 'x' is {fix}"):
        other.with_deltas([replace(empty("y"), base=theirs), empty("x")])


def test_ids_keep_their_type(tmp_path: Path) -> None:
    rows = {"item": (pa.array([2**62, -3]), torch.ones(2, 3)), "user": (pa.array(["7", 'ü"\n']), torch.ones(2, 2))}
    found = replace(empty("x"), reason="").with_changes({}, rows)
    found.save(tmp_path / "one.safetensors")
    assert Delta.load(tmp_path / "one.safetensors").new_ids == {name: ids for name, (ids, _) in rows.items()}
