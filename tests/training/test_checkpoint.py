"""Checkpoints: what is saved is what is loaded, or a clear error."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from funnelcast.errors import FunnelcastError
from funnelcast.training.checkpoint import drop_checkpoint, load_checkpoint, save_checkpoint
from funnelcast.training.progress import Progress
from tests.kill import kills

PROGRESS = Progress(1, 2, 3, True, 0.1 + 0.2, 1, 2, [1 / 3, 1e-300], [2.0, 1 / 7], {"tasks": [3.0]}, 99, True)


def draw() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 3, generator=generator)
    return {"model.w": weight, "turned": weight.t(), "steps": torch.tensor(7), "empty": torch.empty(0, 2)}


def test_round_trip_bit_by_bit(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", draw(), PROGRESS)
    found = load_checkpoint(tmp_path / "c")
    assert found is not None
    tensors, progress = found
    assert progress == PROGRESS
    assert tensors.keys() == draw().keys()
    for name, tensor in draw().items():
        assert torch.equal(tensors[name], tensor) and tensors[name].dtype == tensor.dtype


def test_the_last_one_counts_and_nothing_else_stays(tmp_path: Path) -> None:
    for batch in range(3):
        save_checkpoint(tmp_path / "c", draw(), Progress(batch=batch))
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    found = load_checkpoint(tmp_path / "c")
    assert found is not None and found[1].batch == 2
    drop_checkpoint(tmp_path / "c")
    assert load_checkpoint(tmp_path / "c") is None
    drop_checkpoint(tmp_path / "c")


def test_a_save_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", draw(), PROGRESS)
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path / "c", draw(), Progress(best=torch.tensor(1.0)))  # type: ignore[arg-type]
    found = load_checkpoint(tmp_path / "c")
    assert found is not None and found[1] == PROGRESS


def test_killed_between_the_two_renames(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", draw(), PROGRESS)
    (tmp_path / "c").rename(tmp_path / ".c.partial-old-4194304")
    found = load_checkpoint(tmp_path / "c")
    assert found is not None and found[1] == PROGRESS


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_killed_anywhere_it_is_the_one_before_or_the_new_one(tmp_path: Path) -> None:
    seen = set()
    for _ in kills(
        lambda: save_checkpoint(tmp_path / "c", draw(), Progress(batch=1)),
        lambda: save_checkpoint(tmp_path / "c", draw(), Progress(batch=2)),
    ):
        found = load_checkpoint(tmp_path / "c")
        assert found is not None
        seen.add(found[1].batch)
        drop_checkpoint(tmp_path / "c")
        assert list(tmp_path.iterdir()) == []
    assert seen == {1, 2}


def _edit(change: Callable[[dict[str, object]], None]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        progress = json.loads((folder / "progress.json").read_text())
        change(progress)
        (folder / "progress.json").write_text(json.dumps(progress))

    return damage


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no tensors": lambda folder: (folder / "state.safetensors").unlink(),
    "no progress": lambda folder: (folder / "progress.json").unlink(),
    "short tensors": lambda folder: (folder / "state.safetensors").write_bytes(
        (folder / "state.safetensors").read_bytes()[:-5]
    ),
    "short progress": lambda folder: (folder / "progress.json").write_text('{"stage": 1'),
    "not text": lambda folder: (folder / "progress.json").write_bytes(b"\xff\xfe"),
    "a list": lambda folder: (folder / "progress.json").write_text("[1]"),
    "unknown key": _edit(lambda progress: progress.update(more=1)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_checkpoint_is_told_with_its_fix(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    save_checkpoint(tmp_path / "c", draw(), PROGRESS)
    damage(tmp_path / "c")
    with pytest.raises(FunnelcastError, match="is damaged .* delete it to train from the start"):
        load_checkpoint(tmp_path / "c")


def test_a_checkpoint_of_0_1_has_its_sums_by_their_name_of_then(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", draw(), PROGRESS)
    _edit(lambda progress: progress.update(told=progress.pop("meta_sums")))(tmp_path / "c")
    loaded = load_checkpoint(tmp_path / "c")
    assert loaded is not None and loaded[1] == PROGRESS
