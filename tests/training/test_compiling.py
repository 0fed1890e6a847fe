"""Training by torch.compile: the plain step's gradients. "aot_eager" is all of "inductor" but for making code."""

from typing import Any

import numpy as np
import pytest
import torch

from funnelcast.data.columns import Columns
from funnelcast.errors import FunnelcastError
from funnelcast.training.compiling import CompiledStep
from funnelcast.training.gradients import Gradients
from funnelcast.training.objective import Objective
from funnelcast.training.optimizers import OptimizerConfig
from funnelcast.training.stage_run import Plan, stage_run_of
from funnelcast.training.stages import Stage
from funnelcast.training.step import PlainStep, Trained
from tests.training.test_step import LEARNED, READING, build, dense_parameters, drawn


def step_of(model: str, **changes: Any) -> PlainStep:
    built, weights = build(model, **changes)
    trained = Trained([*dense_parameters(built), *weights.parameters()], True)
    return PlainStep(Objective(built, weights, LEARNED), trained, micro_batch=12)


def tensors_of(found: Gradients) -> list[torch.Tensor]:
    assert found.embedded is not None
    return [found.losses, *found.parameters, *found.embedded.tensors()]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["man", "aitm"])
def test_the_same_gradients(model: str) -> None:
    """With dropout, in lists too, microbatches of two sizes, and a second batch, which nothing is compiled for."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    visited = {"kind": "transformer", "hidden": 3, "dropout": 0.3}
    plain = step_of(model, tower_dropout=[0.3, 0.2], pooling={**READING["pooling"], "visited": visited})
    compiled = CompiledStep.of(plain, "aot_eager")
    for batch in (drawn(32), drawn(30)):
        found, expected = (tensors_of(step(batch, 7, None)) for step in (compiled, plain))
        for mine, right in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, right, rtol=1e-9, atol=1e-12)
    counted = torch._dynamo.utils.counters
    assert counted["stats"]["unique_graphs"] >= 1 and not counted["graph_break"]  # it is compiled, and as a whole


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")  # torch's own imports
@pytest.mark.parametrize(("compiles", "kind"), [(False, PlainStep), (True, CompiledStep)])
def test_the_setting_decides(compiles: bool, kind: type) -> None:
    built, weights = build("shared bottom")
    rows = Columns(np.zeros((4, 1), np.int32), np.zeros((4, 0), np.float32), {}, np.zeros((4, 3), np.uint8))
    plan = Plan(LEARNED, OptimizerConfig(compile=compiles, at_once=3), (Stage(),), seed=0, workers=2)
    step = stage_run_of(plan.stages[0], built, weights, plan, rows, None).step
    assert isinstance(step, kind)
    plain = step.step if isinstance(step, CompiledStep) else step
    assert isinstance(plain, PlainStep) and (plain.at_once, plain.workers) == (3, 1 if compiles else 2)


@pytest.mark.slow
def test_a_fault_of_compiling_says_what_to_do() -> None:
    def failing(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no compiler")

    with pytest.raises(FunnelcastError, match=r"torch.compile failed .*no compiler.*take compile = false"):
        CompiledStep.of(step_of("shared bottom"), failing)(drawn(), 0, None)
