"""What every model keeps, whoever wrote it. Each promise is a function of a `Case` that raises AssertionError.

    for case in cases(MyRecipe(expert=(8, 6), tower=(8, 6), tower_dropout=()), formula):
        for promise in promises_of(case):
            promise(case)

What training promises is in `learning`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns, Ragged
from funnelcast.evaluation import score as scoring
from funnelcast.models.network import FunnelModel
from funnelcast.ops.reach import Reach
from funnelcast.testing.cases import Case
from funnelcast.testing.exporting import ByTensors, tensors_of
from funnelcast.testing.learning import fresh, moves_every_parameter, refuses_settings_of_gradients, trains_by_the_seed

Promise = Callable[[Case], None]


def promises_of(case: Case, *, slow: bool = False) -> list[Promise]:
    """Those that a case has to keep. With `slow` those that take a second or more; `learning` has slower ones."""
    network, first_shape, every_kind = case.recipe.differentiable, case.shape == "chain of 2", case.kind == "all"
    if case.refused:
        return [] if slow else [is_refused_with_reason_and_fix]
    if slow:
        return [exports] if network and first_shape and every_kind else []
    found = [*_ALWAYS, *(_OF_NETWORKS if network else ())]
    if case.funnel.parents != (-1, -1):
        found.append(never_rises_under_the_chain_head)
    if first_shape:
        found.append(moves_every_parameter if network else refuses_settings_of_gradients)
    if every_kind and case.shape == "tree":
        found += [trains_by_the_seed, has_right_derivatives] if network else [trains_by_the_seed]
    return found


def is_refused_with_reason_and_fix(case: Case) -> None:
    """What the capabilities rule out, `check` refuses."""
    faults = case.recipe.check(case.inputs, case.funnel)
    assert len(faults) == 1, faults
    reason = case.recipe.why_not_parallel
    assert reason and reason in faults[0].problem and faults[0].fix, str(faults[0])


def is_taken(case: Case) -> None:
    """What the capabilities allow, `check` lets pass."""
    assert not case.recipe.check(case.inputs, case.funnel)


def has_shapes(case: Case) -> None:
    """(B, T) each in float32, of any number of rows: none and one too."""
    for rows in (0, 1, 9):
        for log in case.model(case.batch(rows)):
            assert log.shape == (rows, len(case.funnel.names))
            assert log.dtype == torch.float32


def has_probabilities(case: Case) -> None:
    """Finite logs of p and q in [0, 1] that add up to 1, for inputs of any size."""
    for scale in (1, 30):
        log_p, log_q = _scaled(case, scale)
        for log in (log_p, log_q):
            assert torch.all(log.isfinite() & (log <= 0))
        torch.testing.assert_close(log_p.exp() + log_q.exp(), torch.ones_like(log_p))


def never_rises_under_the_chain_head(case: Case) -> None:
    """A step is at most as likely as the one before it, for inputs of any size. Every recipe has this head: at least
    where each step is trained given its parent."""
    chained = case.changed(head="chain", loss_space="given_parent")
    is_taken(chained)
    for scale in (1, 30):
        log_p = _scaled(chained, scale).log_p
        for step, parent in enumerate(case.funnel.parents):
            assert parent < 0 or torch.all(log_p[:, step] <= log_p[:, parent])


def reads_each_row_by_itself(case: Case) -> None:
    """Rows in another order, or one alone, give what they gave; and a network tells rows apart at every step."""
    columns, order = case.draw(300), np.random.default_rng(1).permutation(300)
    whole = case.model(Batch.of(columns))
    _close(case.model(Batch.of(columns.take(order))), Reach(*(log[torch.from_numpy(order)] for log in whole)))
    for i in (0, 1):  # of the longest lists, and of none
        _close(case.model(Batch.of(columns).slice(i, i + 1)), Reach(*(log[i : i + 1] for log in whole)))
    if case.recipe.differentiable:
        assert torch.all(whole.log_p.amax(0) > whole.log_p.amin(0)), "a step says the same of every row"


def reads_rows_of_unknown_ids(case: Case) -> None:
    """Rows without any known id, with lists of unknown ids or none, differ by their numbers alone."""
    numeric = case.draw(3).numeric
    numeric[1] = numeric[0]
    for length in (0, 2):
        offsets = np.arange(4) * length
        ragged = {
            each.name: Ragged(offsets, np.zeros(3 * length, np.int32), np.ones(3 * length, np.float32))
            for each in case.inputs.lists
        }
        log_p, log_q = case.model(Batch.of(Columns(np.zeros((3, len(case.inputs.fields)), np.int32), numeric, ragged)))
        assert torch.all(log_p.isfinite() & log_q.isfinite())
        torch.testing.assert_close(log_p[0], log_p[1])


def scores_alike_in_pieces(case: Case) -> None:
    """To 1e-5 in chunks of any size; and bit for bit in chunks of one size, whatever is scored before them."""
    columns = case.draw(9)
    whole = _score(case, columns, len(columns))
    _close(Reach(*torch.from_numpy(whole)), case.model(Batch.of(columns)))
    for chunk in (2, 4):
        found = _score(case, columns, chunk)
        np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-6)
        second = slice(chunk, 2 * chunk)
        assert np.array_equal(found[:, second], _score(case, columns.take(np.arange(9)[second]), chunk))


def is_the_same_after_saving(case: Case) -> None:
    """Bit for bit, loaded into a model that was just built."""
    batch, model = case.batch(9), case.model
    with TemporaryDirectory() as folder:
        model.save(Path(folder))
        loaded = case.recipe.build(case.inputs, case.funnel)
        loaded.load(Path(folder))
    assert loaded.fingerprint == model.fingerprint
    for found, expected in zip(loaded(batch), model(batch), strict=True):
        assert torch.equal(found, expected)


def starts_by_the_seed(case: Case) -> None:
    """The seed decides every first parameter, and nothing else does."""
    first, repeated, other = (fresh(case.recipe, case.inputs, case.funnel, s).state_dict() for s in (3, 3, 4))
    for name, values in first.items():
        assert torch.equal(values, repeated[name]), name
        assert name.endswith((".bias", ".scale")) or not torch.equal(values, other[name]), name


def has_the_parameters_of_its_formula(case: Case) -> None:
    """No more and no less."""
    assert case.formula is not None, "hand in the number of parameters as a function"
    assert sum(p.numel() for p in _network(case).parameters()) == case.formula(case)


def passes_a_gradient_to_every_parameter(case: Case) -> None:
    """And to every network of a bank."""
    _, grads = _gradients(_network(case), case.batch(64))
    for name, grad in grads.items():
        assert torch.all(grad.isfinite()), name
        assert torch.all((grad if grad.dim() == 3 else grad[None]).flatten(1).any(1)), name


def is_the_same_in_its_fast_form(case: Case) -> None:
    """With hand-written kernels: probabilities, and gradients of all parameters that are as near to those in float64 as
    the ones of plain operations."""
    network, batch = _network(case), case.batch(33)
    plain, grads = _gradients(network, batch)
    with network.compute():
        fused, fused_grads = _gradients(network, batch)
    _close(fused, plain)
    for name, exact in _gradients(*_in_double(network, batch))[1].items():
        error, allowed = (float((found[name] - exact).abs().max()) for found in (fused_grads, grads))
        assert error <= max(1e-4 * float(exact.abs().max()), 2 * allowed), name


def has_right_derivatives(case: Case) -> None:
    """Of all parameters, first ones and, where the recipe says so, second ones; in float64."""
    network, batch = _in_double(_network(case), case.batch(5))
    parameters = dict(network.named_parameters())
    sizes = [parameter.numel() for parameter in parameters.values()]

    def squares(flat: Tensor) -> Tensor:
        parts = zip(parameters.items(), flat.split(sizes), strict=True)
        named = {name: part.view(parameter.shape) for (name, parameter), part in parts}
        log_p, log_q = functional_call(network, named, (batch,))
        total: Tensor = (log_p * log_p + log_q * log_q).sum()
        return total

    flat = torch.cat([parameter.detach().flatten() for parameter in parameters.values()]).requires_grad_()
    assert gradcheck(squares, flat, fast_mode=True)
    if case.recipe.second_order:
        assert gradgradcheck(squares, flat, fast_mode=True)


def exports(case: Case) -> None:
    """To a program that takes any number of rows and of list elements."""
    own, other = (tensors_of(case.batch(rows, seed=rows)) for rows in (6, 11))
    any_size = {0: torch.export.Dim.AUTO}
    shapes = (any_size, any_size, {name: dict.fromkeys(tensors, any_size) for name, tensors in own[2].items()})
    program = torch.export.export(ByTensors(_network(case)).eval(), own, dynamic_shapes=shapes)
    _close(program.module()(*other), case.model(case.batch(11, seed=11)))


_ALWAYS: tuple[Promise, ...] = (
    is_taken,
    has_shapes,
    has_probabilities,
    reads_each_row_by_itself,
    reads_rows_of_unknown_ids,
    scores_alike_in_pieces,
    is_the_same_after_saving,
)
_OF_NETWORKS: tuple[Promise, ...] = (
    starts_by_the_seed,
    has_the_parameters_of_its_formula,
    passes_a_gradient_to_every_parameter,
    is_the_same_in_its_fast_form,
)


def _network(case: Case) -> FunnelModel:
    return cast(FunnelModel, case.model)


def _in_double(network: FunnelModel, batch: Batch) -> tuple[FunnelModel, Batch]:
    return copy.deepcopy(network).double(), Batch(batch.ids, batch.numeric.double(), lists=batch.lists)


def _scaled(case: Case, scale: float) -> Reach:
    """Of rows with all that a model reads of them multiplied: numbers, weights, and embeddings."""
    batch = case.batch(100)
    lists = {n: replace(e, weights=None if e.weights is None else scale * e.weights) for n, e in batch.lists.items()}
    batch = Batch(batch.ids, scale * batch.numeric, lists=lists)
    if not case.recipe.differentiable:
        return case.model(batch)
    network = _network(case)
    tables = {name: scale * table for name, table in network.groups(["embedding"]).items()}
    reach: Reach = functional_call(network, tables, (batch,))
    return reach


def _score(case: Case, columns: Columns, chunk: int) -> NDArray[np.float32]:
    with mock.patch.object(scoring, "CHUNK", chunk):
        return np.stack(scoring.score(case.model, columns))


def _gradients(network: FunnelModel, batch: Batch) -> tuple[Reach, dict[str, Tensor]]:
    reach = network(batch)
    loss, parameters = -reach.log_p.mean() - 2 * reach.log_q.mean(), dict(network.named_parameters())
    grads = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, materialize_grads=True)
    return reach, dict(zip(parameters, grads, strict=True))


def _close(found: Reach, expected: Reach) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
