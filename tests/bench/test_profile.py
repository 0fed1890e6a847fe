"""The bench that tells where a step's time goes: every part that it names is there, and has time of its own."""

from typing import Any

import pytest
from numba.core.dispatcher import Dispatcher

from bench import profile
from funnelcast.training.optimizers import OptimizerConfig


def test_every_part_of_a_step_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """MAN has all of them: attention, dropout, vectors that repeat."""
    monkeypatch.setattr(profile, "BATCHES", 3)
    kernels, part_of = set[str](), profile._part_of

    def noted(call: Any) -> str:
        kernel = getattr(call, "func", None)
        if isinstance(kernel, Dispatcher):
            kernels.add(kernel.py_func.__name__)
        return part_of(call)

    monkeypatch.setattr(profile, "_part_of", noted)
    found = profile.profile(profile.stage_run_on("man", 5, OptimizerConfig(batch_size=256, micro_batch=128)))
    around = {
        "looking up embeddings",
        "handing a captured step its rows",
        "adding up microbatches, and what is between",
        "gradients of embedding rows",
        "Adam of embedding rows",
        "Adam of other parameters",
        "operations of torch's beside them",
        "reading rows",
        "all else",
    }
    assert kernels == profile.KERNELS.keys()
    assert found.keys() == {*profile.KERNELS.values(), *around}
    assert all(seconds > 0 for seconds in found.values())
