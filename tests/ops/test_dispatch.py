"""The implementation of operations is chosen in one place: a backend of a test's own takes them all over."""

from __future__ import annotations

import inspect
import pkgutil
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import import_module
from types import FunctionType
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from funnelcast import ops
from funnelcast.errors import FunnelcastError
from funnelcast.kernels import cpu
from funnelcast.models.network import FunnelModel
from funnelcast.ops import Backend, Precision, chain_reach, compute, dispatch
from funnelcast.registry import recipe_of
from funnelcast.schema.funnel import Funnel
from funnelcast.training.losses import LossConfig, build_loss_weights
from funnelcast.training.objective import Objective
from funnelcast.training.optimizers import Optimizer, OptimizerConfig
from funnelcast.training.step import PlainStep, Trained
from tests.layers.inputs import INPUTS, draw_batch
from tests.layers.reference import draw, randomise

CPU = torch.device("cpu")
FUNNEL = Funnel.parse("click; conversion after click; like after click")
TOWERS: dict[str, Any] = {"embedding_dim": 3, "tower": [16, 8], "tower_dropout": [0.2, 0.1]}
MAN: dict[str, Any] = {
    "name": "man",
    "expert": [16, 8],
    "experts_per_step": 2,
    "shared_experts": 1,
    "pooling": {"history": {"kind": "transformer", "hidden": 3, "dropout": 0.1}},
    **TOWERS,
}
FORWARD = {
    "gather", "deduplicate", "linear", "softmax_gates", "expert_mixture", "mlp_bank",
    "self_attention", "logits", "reach",
}  # fmt: skip
"""What a forward pass of MAN with a pooled sequence is made of."""
TRAINING = {
    *(FORWARD - {"reach"}), "random_bits", "funnel_losses", "unique", "scatter_add", "scatter_add_bags", "adam",
    "adam_rows",
}  # fmt: skip
"""And what a step of its training."""
OPERATIONS: dict[str, Callable[..., Any]] = {
    name: function
    for each in pkgutil.iter_modules(ops.__path__)
    for name, function in vars(import_module(f"{ops.__name__}.{each.name}")).items()
    if isinstance(function, FunctionType) and function.__code__ is ops.linear.__code__
}
"""All that `op` has made, by name."""


class Fake:
    """A backend that counts calls, and calls references."""

    def __init__(self, *declined: str, **where: Any) -> None:
        """`declined`: operations that its kernels do not support; `where`: as of `Backend`."""
        self.calls, self.declined = Counter[str](), declined
        self.kernels = {name: self._kernel(name) for name in OPERATIONS}
        self.backend = Backend(self.kernels, **{"device": "cpu", "dtype": torch.float64, **where})

    def _kernel(self, name: str) -> Callable[..., Any]:
        def kernel(*args: Any, **named: Any) -> Any:
            self.calls[name] += 1
            if name in self.declined:
                return NotImplemented
            return OPERATIONS[name].__wrapped__(*args, **named)  # type: ignore[attr-defined]

        return kernel

    def register(self, monkeypatch: pytest.MonkeyPatch) -> Fake:
        """Ask it before all others."""
        monkeypatch.setattr(dispatch, "BACKENDS", [self.backend, *dispatch.BACKENDS])
        return self


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """A backend for float64 on the CPU."""
    return Fake().register(monkeypatch)


def built(config: Mapping[str, Any] = MAN, dtype: torch.dtype = torch.float64) -> FunnelModel:
    model = recipe_of({**TOWERS, **config}).build(INPUTS, FUNNEL)
    assert isinstance(model, FunnelModel)
    randomise(model, scale=0.5)
    return model.to(dtype)


def test_all_operations_are_known() -> None:
    assert len(OPERATIONS) >= 15 and set(OPERATIONS) == FORWARD | TRAINING
    assert all(getattr(ops, name) is function for name, function in OPERATIONS.items())


@pytest.mark.parametrize("backend", dispatch.BACKENDS, ids=lambda backend: f"{backend.device} {backend.precision}")
def test_kernels_have_the_arguments_of_their_operations(backend: Backend) -> None:
    """In the same order, with the same defaults."""
    assert backend.kernels.keys() <= OPERATIONS.keys()
    for name, kernel in backend.kernels.items():
        own, expected = (inspect.signature(function).parameters for function in (kernel, OPERATIONS[name]))
        right = [(each.name, each.kind, each.default) for each in expected.values()]
        assert [(e.name, e.kind, e.default) for e in own.values() if e.name != "bf16"] == right, name


def test_a_models_forward_pass_is_made_of_a_backends_kernels(fake: Fake) -> None:
    model, batch = built(), draw_batch(20)
    expected = model(batch)
    assert not fake.calls
    with model.compute(), torch.no_grad():
        found = model(batch)
    assert set(fake.calls) == FORWARD
    assert torch.equal(found.log_p, expected.log_p) and torch.equal(found.log_q, expected.log_q)


@pytest.mark.parametrize("name", ["esmm", "aitm", "mmoe", "omoe", "ple", "shared_bottom", "single_task"])
def test_so_are_those_of_other_models(name: str, fake: Fake) -> None:
    model, batch = built({"name": name}), draw_batch(20)
    found = model.score(batch)
    assert {"gather", "deduplicate", "mlp_bank", "logits", "reach"} <= set(fake.calls) <= set(OPERATIONS)
    with torch.no_grad():
        assert torch.equal(found.log_p, model(batch).log_p)


def test_what_a_kernel_returns_is_what_counts(fake: Fake) -> None:
    """Not only that it was called: logits that are one higher make another reach."""
    model, batch = built(), draw_batch(20)
    model.score(batch)
    own = fake.kernels["logits"]
    fake.kernels["logits"] = lambda *args: own(*args) + 1  # as the backend holds this very mapping
    with torch.no_grad():
        expected = chain_reach(model.logits(model.embedding(batch)) + 1, model.parents)
    assert torch.equal(model.score(batch).log_p, expected.log_p)


@pytest.mark.parametrize("declined", sorted(FORWARD))
def test_what_a_kernel_does_not_support_is_left_to_the_reference(
    declined: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, model, batch = Fake(declined).register(monkeypatch), built(), draw_batch(20)
    found = model.score(batch)
    assert set(fake.calls) == FORWARD
    with torch.no_grad():
        assert torch.equal(found.log_p, model(batch).log_p)


def test_an_operation_without_a_kernel_is_its_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "BACKENDS", [Backend({}, "cpu", dtype=torch.float64)])
    model, batch = built(), draw_batch(20)
    with torch.no_grad():
        assert torch.equal(model.score(batch).log_p, model(batch).log_p)


def test_a_training_step_is_made_of_a_backends_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of float32, in place of our own; lists are pooled, attended to, and looked up."""
    fake, model = Fake(dtype=torch.float32).register(monkeypatch), built(dtype=torch.float32)
    config = LossConfig()
    weights = build_loss_weights(config, (0.5, 0.3, 0.2))
    dense = {name: p for name, p in model.named_parameters() if not name.startswith("embedding.")}
    step = PlainStep(Objective(model, weights, config), Trained(list(dense.values()), True), 8)
    optimizer = Optimizer(OptimizerConfig(), dense, {}, 0.1, model.embedding.all_tables())
    batch = replace(draw_batch(20, dtype=torch.float32), labels=torch.zeros(20, 3, dtype=torch.uint8))
    optimizer.step(step(batch, 0, None))
    assert set(fake.calls) == TRAINING


def test_a_backend_is_for_its_own_work() -> None:
    backend = Fake(device="cuda", precision="bfloat16", order=1, dtype=torch.float32).backend
    cuda = torch.device("cuda", 1)
    assert backend.supports(cuda, torch.float32, "bfloat16", 0) and backend.supports(cuda, torch.float32, "bfloat16", 1)
    assert not backend.supports(cuda, torch.float32, "bfloat16", 2)
    assert not backend.supports(cuda, torch.float32, "float32", 1)
    assert not backend.supports(cuda, torch.float64, "bfloat16", 1)
    assert not backend.supports(CPU, torch.float32, "bfloat16", 1)


def test_the_first_backend_that_supports_the_work_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = [Fake(order=0), Fake(order=1), Fake(order=2)]
    monkeypatch.setattr(dispatch, "BACKENDS", [each.backend for each in fakes])
    for order, expected in enumerate(([1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1])):
        with compute(CPU, order=order, dtype=torch.float64):
            ops.unique(torch.zeros(3, dtype=torch.int64))
        assert [sum(each.calls.values()) for each in fakes] == expected


def kernels() -> Any:
    """Those that this thread's operations have now."""
    return dispatch._kernels()


def test_the_choice_is_restored_after_a_block_and_after_an_error(fake: Fake) -> None:
    with compute(CPU):
        assert kernels() is cpu.FLOAT32
        with compute(CPU, dtype=torch.float64):
            assert kernels() is fake.kernels
            with compute(CPU, order=2):
                assert not kernels()
            assert kernels() is fake.kernels
        with pytest.raises(KeyError), compute(CPU, order=2):
            raise KeyError
        assert kernels() is cpu.FLOAT32
    assert not kernels()


def test_a_choice_is_a_threads_own(fake: Fake) -> None:
    def chosen(dtype: torch.dtype | None) -> Any:
        before = kernels()
        if dtype is not None:
            with compute(CPU, dtype=dtype):
                before = kernels()
        return before

    with ThreadPoolExecutor(2) as pool, compute(CPU):
        found = list(pool.map(chosen, [None, torch.float64, None, torch.float32, None]))
        assert kernels() is cpu.FLOAT32
    assert [own is not None and len(own) for own in found] == [0, len(OPERATIONS), 0, len(cpu.FLOAT32), 0]
    assert found[1] is fake.kernels and found[3] is cpu.FLOAT32


@pytest.mark.parametrize("precision", ["float16", "half", ""])
def test_a_precision_that_is_not_known_is_refused(precision: Any) -> None:
    """Before anything is chosen."""
    with compute(CPU):
        with pytest.raises(FunnelcastError, match=f"{precision!r} is not known; take one of float32, bfloat16"):
            compute(CPU, precision=precision).__enter__()
        assert kernels() is cpu.FLOAT32
    with pytest.raises(FunnelcastError, match="is not known"):
        built().score(draw_batch(3), precision=precision)


def test_a_backend_may_bring_a_precision_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Named once more where precisions are listed, and nowhere else."""
    monkeypatch.setattr(dispatch, "Precision", Literal["float32", "bfloat16", "float8"])
    fake, batch = (
        Fake(precision="float8", dtype=torch.float32).register(monkeypatch),
        draw_batch(9, dtype=torch.float32),
    )
    model, own = built(dtype=torch.float32), "float8"
    found = model.score(batch, precision=own)  # type: ignore[arg-type]
    assert set(fake.calls) == FORWARD
    with torch.no_grad():
        assert torch.equal(found.log_p, model(batch).log_p)


@pytest.mark.parametrize(("precision", "dtype", "casts"), [
    ("float32", torch.float32, False), ("float32", torch.float64, False), ("bfloat16", torch.float64, True),
])  # fmt: skip
def test_without_kernels_torch_casts_operands(
    precision: Precision, dtype: torch.dtype, casts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By autocast, which leaves sums and what is no product alone."""
    monkeypatch.setattr(dispatch, "check_precision", lambda precision, device: None)
    with compute(CPU, precision=precision, dtype=dtype, order=2):
        assert torch.is_autocast_enabled("cpu") == casts
        product = ops.linear(draw(0, 4, 5).float(), draw(1, 3, 5).float())
    assert product.dtype == (torch.bfloat16 if casts else torch.float32)
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.slow
@pytest.mark.skipif(bool(cpu.why_no_bfloat16()), reason="this processor does not multiply bfloat16")
def test_kernels_cast_for_themselves() -> None:
    """And hand on float32."""
    with compute(CPU, precision="bfloat16"):
        assert kernels() is cpu.BFLOAT16 and not torch.is_autocast_enabled("cpu")
        product: Tensor = ops.linear(draw(0, 4, 5).float(), draw(1, 3, 5).float())
    assert product.dtype == torch.float32


@pytest.mark.slow
def test_operations_keep_their_names_and_can_be_exported() -> None:
    """As plain operations."""

    class Linear(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return ops.linear(x, torch.ones(2, 3))

    assert ops.linear.__name__ == "linear" and (ops.linear.__doc__ or "").startswith("Return x Wᵀ")
    exported = torch.export.export(Linear(), (torch.ones(4, 3),))
    assert torch.equal(exported.module()(torch.ones(4, 3)), torch.full((4, 2), 3.0))
