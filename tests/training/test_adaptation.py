"""Adapting against gradient steps written by hand; what it does to rows of its own process and of another."""

import copy
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from funnelcast.data.batch import Batch
from funnelcast.errors import ConfigError, FunnelcastError
from funnelcast.models.network import GROUPS, TOP, FunnelModel
from funnelcast.ops.reach import undo_downsampling
from funnelcast.registry import recipe_of
from funnelcast.schema.funnel import Funnel
from funnelcast.training.adaptation import Adapted, _folds, adapt
from funnelcast.training.adapting import Adapting, Starting
from funnelcast.training.adapting_path import Run, lowest
from funnelcast.training.algorithms import Inner
from funnelcast.training.information import information, shrinkage
from funnelcast.training.losses import LossConfig
from funnelcast.training.offsets import offsets
from tests import tiny
from tests.layers.inputs import draw_batch, source
from tests.layers.reference import randomise
from tests.training.test_step import MODELS, build, drawn, losses_by_hand

WEIGHTS = (2.0, 3.0, 0.5)
TRAINED = (9.0, 0.0, 4.0)
STARTING = Starting(LossConfig(), WEIGHTS, None, (0.0,) * 3, {})


def network(model: str = "man") -> FunnelModel:
    return build(model)[0]


def forced(model: str) -> Batch:
    """Rows of which nearly all reach every step, so that steps help."""
    batch = drawn(40)
    assert batch.labels is not None
    labels = batch.labels.clone()
    labels[:36] = labels[:36].clamp(min=1)
    return replace(batch, labels=labels)


def by_hand(
    model: FunnelModel, rows: Batch, starting: Starting, names: list[str], rate: float, steps: int, prior: float
) -> FunnelModel:
    """Plain gradient steps on a copy."""
    model = copy.deepcopy(model)
    measured = information(model, rows)
    factors = [
        w * i / (i + prior) * ((t + prior) / t if t else 1)
        for w, i, t in zip(starting.weights, measured, starting.information, strict=True)
    ]
    own = dict(model.named_parameters())
    for _ in range(steps):
        losses, _, penalty = losses_by_hand(model, model.embedding(rows), rows)
        total = (torch.tensor(factors, dtype=torch.float64) * losses).sum() + penalty
        grads = torch.autograd.grad(total, [own[name] for name in names], allow_unused=True)
        for name, grad in zip(names, grads, strict=True):
            own[name].data -= rate * starting.factors.get(name, 1.0) * (0 if grad is None else grad)
    return model


@pytest.mark.parametrize("inner", ["all", "top", pytest.param(["towers"], marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", MODELS)
def test_it_takes_plain_gradient_steps(name: str, inner: Any) -> None:
    """On losses over the rows that count for each step, weighed, and shrunk by what the rows tell."""
    model, rows, config = (
        network(name),
        forced(name),
        Adapting(inner=inner, learning_rate=0.002, steps=3, offsets=False),
    )
    starting = replace(STARTING, information=TRAINED)
    found = adapt(model, starting, rows, config)
    groups: Any = {"all": GROUPS[1:], "top": TOP}.get(str(inner), ("towers",))
    names = list(model.groups(groups))
    assert found.steps >= (1 if name == "aitm" else 2) and list(found.parameters) == names
    assert found.losses[found.steps] == min(found.losses) and len(found.losses) == 4
    expected = dict(by_hand(model, rows, starting, names, 0.002, found.steps, 2.0).named_parameters())
    for each in names:
        torch.testing.assert_close(found.parameters[each], expected[each], rtol=1e-6, atol=1e-7)


def test_learned_factors_scale_each_number() -> None:
    model, rows = network(), forced("man")
    factors = {n: torch.rand(p.shape, generator=source(1)).double() for n, p in model.groups(("towers",)).items()}
    inner = Inner(inner="top", learning_rate=0.005, steps=2, learned=True)
    starting = replace(STARTING, inner=inner, factors=factors)
    found = adapt(model, starting, rows, Adapting(offsets=False))
    names = list(model.groups(inner.groups))
    expected = dict(by_hand(model, rows, starting, names, 0.005, 2, 2.0).named_parameters())
    assert found.steps == 2 and list(found.parameters) == names
    for each in names:
        torch.testing.assert_close(found.parameters[each], expected[each], rtol=1e-6, atol=1e-7)


def test_held_out_losses_are_those_of_steps_on_the_other_rows() -> None:
    """With two folds of rows that weigh alike, by the network of the other fold's steps."""
    model, rows = network(), replace(forced("man"), weight=None)
    config = Adapting(inner="top", learning_rate=0.002, steps=2, folds=2, prior=0, offsets=False)
    found, names, totals = adapt(model, STARTING, rows, config, seed=3), list(model.groups(TOP)), [0.0] * 3
    folds = _folds(rows, 2, 3)
    assert torch.equal(folds[0], ~folds[1]) and int(folds[0].sum()) == 20
    for held in folds:
        known, query = (rows.take(torch.nonzero(where).squeeze(1)) for where in (~held, held))
        for k in range(3):
            after = by_hand(model, known, STARTING, names, 0.002, k, 0.0)
            losses, _, penalty = losses_by_hand(after, after.embedding(query), query)
            weighted = (torch.tensor(WEIGHTS, dtype=torch.float64) * losses).sum() + penalty
            totals[k] += float(weighted.detach()) * 20
    assert found.losses == pytest.approx([total / 40 for total in totals], rel=1e-6)


def test_each_fold_has_its_share_of_the_rows_that_went_deep() -> None:
    labels = torch.zeros(103, 3, dtype=torch.uint8)
    labels[:20, 0], labels[:10, 1] = 1, 1
    rows = replace(draw_batch(103), labels=labels)
    folds = _folds(rows, 5, 0)
    assert torch.stack(folds).sum(0).tolist() == [1] * 103
    for fold in folds:
        assert (int(fold[:10].sum()), int(fold[10:20].sum())) == (2, 2) and int(fold.sum()) in (20, 21)
    assert not torch.equal(folds[0], _folds(rows, 5, 1)[0])


def test_what_shrinks_a_step() -> None:
    measured, trained = [6.0, 6.0, 6.0, 0.0], [0.0, 18.0, 6.0, 0.0]
    assert shrinkage(measured, trained, [2.0] * 4) == pytest.approx([6 / 8, 6 / 8 * 20 / 18, 1, 0])
    assert shrinkage(measured, trained, [14.0, 14.0, math.inf, math.inf]) == pytest.approx([0.3, 0.3 * 20 / 18, 0, 0])
    assert shrinkage([6.0, 0.1], [0.0, 18.0], [0.0, 0.0]) == pytest.approx([1, 1])


@pytest.mark.parametrize("name", ["man", "aitm", "single task"])
def test_what_rows_tell(name: str) -> None:
    """Σ p (1 - p) of each logit's own event, row by row; for weights that of as many rows of weight 1."""
    model, rows = network(name), replace(drawn(), weight=None)
    p = model.network(model.embedding(rows)).log_p.exp().tolist()
    expected = [0.0] * 3
    for row in p:
        for t, parent in enumerate((-1, 0, 0)):
            reached = row[parent] if parent >= 0 and name != "aitm" else 1.0
            given = row[t] / reached
            expected[t] += reached * given * (1 - given)
    assert information(model, rows) == pytest.approx(expected)
    sevens = replace(rows, weight=torch.full((len(rows),), 7.0))
    assert information(model, sevens) == pytest.approx(expected)
    few = replace(rows, weight=(torch.arange(len(rows)) < 8) * 3.0)
    assert information(model, few) == pytest.approx(information(model, rows.slice(0, 8)))


SMALL = tiny.fitted_encoder().inputs


def query(rows: int = 500, seed: int = 99) -> Batch:
    return draw_batch(rows, seed, SMALL, torch.float32)


def simulated(seed: int, rows: int, shift: float = 0.0, keep: float = 1.0) -> tuple[FunnelModel, Batch]:
    """A small network, and rows whose logits are its own, moved; its negatives were sampled."""
    model = recipe_of(tiny.MODEL).build(SMALL, Funnel.parse("click; conversion after click"))
    assert isinstance(model, FunnelModel) and model.output.bias is not None
    randomise(model, scale=0.6)
    model.output.bias.data[:] = -0.5
    batch = query(rows, seed)
    with torch.no_grad():
        reach = model(batch)
        p = (undo_downsampling(reach, model.parents, keep) if keep < 1 else reach).log_p.double().exp()
    columns: list[Tensor] = []
    for t, parent in enumerate(model.parents):
        given = p[:, t] / (p[:, parent] if parent >= 0 else 1)
        moved = torch.sigmoid(torch.logit(given.clamp(1e-6, 1 - 1e-6)) + shift)
        own = torch.rand(rows, generator=source(100 * seed + t)).double() < moved
        columns.append(own & columns[parent] if parent >= 0 else own)
    return model, replace(batch, labels=torch.stack(columns, 1).byte())


def adapted(model: FunnelModel, found: Adapted) -> FunnelModel:
    model = copy.deepcopy(model)
    model.load_state_dict({**model.state_dict(), **found.parameters})
    return model


def moved(model: FunnelModel, found: Adapted, batch: Batch) -> float:
    """How far adapting moves the first step's logit, in the mean."""
    with torch.no_grad():
        before, after = (each(batch) for each in (model, adapted(model, found)))
    return float(((after.log_p - after.log_q) - (before.log_p - before.log_q))[:, 0].mean())


def excess(model: FunnelModel, found: Adapted, batch: Batch, shift: float) -> float:
    """Mean divergence of the first step's true probability from the predicted one."""
    with torch.no_grad():
        base, measured = model(batch), adapted(model, found)(batch)
    p = torch.sigmoid((base.log_p - base.log_q)[:, 0].double() + shift)
    cross = -(p * measured.log_p[:, 0] + (1 - p) * measured.log_q[:, 0])
    return float((cross - torch.special.entr(p) - torch.special.entr(1 - p)).mean())


PLAIN = replace(STARTING, weights=(1.0, 1.0), information=(0.0, 0.0))


@pytest.mark.slow
@pytest.mark.parametrize("fitted", [True, False], ids=["offsets and steps", "steps alone"])
def test_on_rows_of_its_own_process_it_changes_little_or_nothing(fitted: bool) -> None:
    """An offset that is fitted is hardly ever exactly nothing; steps alone often are."""
    losses, steps = [], []
    for seed in range(12):
        model, rows = simulated(seed, 200)
        found = adapt(model, PLAIN, rows, Adapting(offsets=fitted))
        losses.append(excess(model, found, query(), 0))
        steps.append(found.steps)
    assert sum(losses) / len(losses) < 0.004, losses
    assert fitted or steps.count(0) >= 2, steps


@pytest.mark.slow
@pytest.mark.parametrize("shift", [1.5, -1.5])
def test_on_rows_of_another_process_it_helps_much(shift: float) -> None:
    ways = []
    for seed in range(1, 5):
        model, rows = simulated(seed, 2000, shift)
        found = adapt(model, PLAIN, rows, Adapting())
        before = excess(model, Adapted({}, 0, []), query(), shift)
        assert before > 0.1 and excess(model, found, query(), shift) < 0.2 * before
        ways.append(moved(model, found, query()))
    assert ways == pytest.approx([shift] * len(ways), abs=0.6)


@pytest.mark.slow
def test_sampled_negatives_are_taken_into_account() -> None:
    """The network's own probabilities are of sampled rows, those that it adapts to are of all."""
    model, rows = simulated(1, 3000, keep=0.1)
    right, wrong = (adapt(model, replace(PLAIN, keep_negatives=k), rows, Adapting()) for k in (0.1, 1.0))
    assert abs(moved(model, right, rows)) < 0.2 and moved(model, wrong, rows) < -1


@pytest.mark.slow
def test_it_is_empty_where_no_step_helps() -> None:
    found = [
        adapt(model, PLAIN, rows, Adapting(steps=3)) for model, rows in (simulated(seed, 100) for seed in range(8))
    ]
    empty = [each for each in found if not each.steps]
    assert empty
    for each in empty:
        assert (each.parameters, each.new) == ({}, {})
        assert len(each.losses) == 5 and min(each.losses) == each.losses[0]


def test_offsets_come_first_and_then_steps_from_the_rows_own_rates() -> None:
    """Place 1 has other biases alone, at the posterior's peak; the others have also moved, from the likelihood's."""
    model, rows = simulated(1, 400, 1.5)
    run = Run.of(model, replace(PLAIN, differences=(0.5, 0.8)), Adapting(inner="top", steps=1), None)
    loop, (_, first, second) = run.path(run.look_up(rows, torch.ones(400, dtype=torch.bool)))
    base, bias = dict(zip(loop.names, loop.start, strict=True)), "model.output.bias"
    own, moved = (dict(zip(loop.names, place.leaves, strict=True)) for place in (first, second))
    assert rows.labels is not None
    expected = offsets(model.logits(model.embedding(rows)).detach(), rows.labels, model.parents, [4.0, 0.8**-2])
    torch.testing.assert_close((own[bias] - base[bias]).flatten(), expected.float())
    for name in loop.names:
        assert torch.equal(own[name], base[name]) == (name != bias)
        assert not torch.equal(moved[name], own[name])


def test_offsets_of_sampled_negatives_are_those_of_all_rows() -> None:
    """The odds of the first step are those of the kept rows times what was kept; a row tells what one of all does."""
    model, rows = simulated(1, 300, keep=0.1)
    run = Run.of(model, replace(PLAIN, keep_negatives=0.1), Adapting(inner="top", steps=1), None)
    loop, path = run.path(run.look_up(run.as_trained(rows), torch.ones(300, dtype=torch.bool)))
    i, logits = loop.names.index("model.output.bias"), model.logits(model.embedding(rows)).detach()
    assert rows.labels is not None
    expected = offsets(logits + torch.tensor([math.log(0.1), 0]), rows.labels, model.parents, [2.0, 2.0])
    torch.testing.assert_close((path[1].leaves[i] - loop.start[i]).flatten(), expected.float(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("loss", [{"focal_gamma": 1.0}, {"positive_weight": 3.0}])
def test_rows_that_count_otherwise_fit_no_offset(loss: dict[str, Any]) -> None:
    model, rows = simulated(1, 50, 1.5)
    run = Run.of(model, replace(PLAIN, loss=LossConfig(**loss)), Adapting(steps=1), None)
    _, (start, first, _) = run.path(run.look_up(rows, torch.ones(50, dtype=torch.bool)))
    assert all(torch.equal(a, b) for a, b in zip(start.leaves, first.leaves, strict=True))


def test_a_step_that_overshoots_ends_where_a_parabola_is_lowest() -> None:
    assert lowest(10.0, 6.0, 5.0) == 1  # still falling at its end
    assert lowest(10.0, 9.0, 4.0) == pytest.approx(4 / 6)  # 10 - 4 t + 3 t²
    assert lowest(10.0, 13.0, 1.0) == pytest.approx(1 / 8)
    assert (lowest(10.0, 6.0, 3.0), lowest(10.0, math.inf, 3.0), lowest(10.0, math.nan, 3.0)) == (1, 0, 0)


def test_nothing_adapts_where_the_tasks_of_training_were_alike() -> None:
    """No step is tried, unless a prior says otherwise."""
    model, rows = simulated(1, 2000, 1.5)
    none = adapt(model, replace(PLAIN, differences=(0.0, 0.0)), rows, Adapting())
    assert (none.parameters, none.steps, none.alike, len(none.losses)) == ({}, 0, True, 1)
    assert adapt(model, replace(PLAIN, differences=(0.0, 0.0)), rows, Adapting(prior=2)).steps


@pytest.mark.parametrize("rows", [2, 3])
def test_fewer_rows_than_folds(rows: int) -> None:
    model, batch = simulated(0, rows, 3.0)
    found = adapt(model, PLAIN, batch, Adapting())
    assert all(map(math.isfinite, found.losses))


def test_rows_without_weight_teach_nothing() -> None:
    model, batch = simulated(0, 20)
    assert adapt(model, PLAIN, replace(batch, weight=torch.zeros(20)), Adapting()).parameters == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    "fitted", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["offsets and steps", "steps alone"]
)
def test_the_model_stays_as_it_is_and_threads_do_not_meet(fitted: bool) -> None:
    model, rows = simulated(1, 100, 1.5)
    before, state = model(query()).log_p, copy.deepcopy(model.state_dict())
    alone = adapt(model, PLAIN, rows, Adapting(steps=3, offsets=fitted))
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(adapt, model, PLAIN, rows, Adapting(steps=3, offsets=fitted)) for _ in range(4)]
        measured = [pool.submit(lambda: model(query()).log_p) for _ in range(30)]
    assert all(torch.equal(each.result(), before) for each in measured)
    for each in found:
        assert each.result().losses == alone.losses and (fitted or alone.steps == 3)
        assert all(torch.equal(t, alone.parameters[name]) for name, t in each.result().parameters.items())
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(ConfigError, match="the embedding never adapts"):
        Adapting.from_dict({"inner": ["embedding", "towers"]})
    with pytest.raises(ConfigError, match="did you mean 'steps'"):
        Adapting.from_dict({"step": 3})
    with pytest.raises(FunnelcastError, match="adapts gates, and the model has none of these; name groups"):
        adapt(network("shared bottom"), STARTING, forced("shared bottom"), Adapting(inner=("gates",)))
