"""What training promises of every model: the seed decides it; it learns rows by heart, the known process, and no noise.

The last three take a recipe that is wide enough to learn, and some seconds each.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch

from funnelcast.boosting.fit import Boosting
from funnelcast.boosting.lightgbm import LightGBM
from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns
from funnelcast.data.encoder import Encoder, InputSpec
from funnelcast.data.loader import generator_of
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.errors import ConfigError
from funnelcast.evaluation.auc import auc_interval
from funnelcast.evaluation.score import score
from funnelcast.experiments.experiment import Experiment
from funnelcast.models.base import Model, Recipe
from funnelcast.models.network import FunnelModel, NetworkRecipe
from funnelcast.schema.dataset import Schema
from funnelcast.schema.funnel import Funnel
from funnelcast.testing.auc_gains import FUNNEL, SIMULATED, additive_auc_gains, auc_gains_of, labels_of, simulated_parts
from funnelcast.testing.cases import Case, cases
from funnelcast.training.losses import LossConfig, LossWeights, build_loss_weights, rates_given_parent
from funnelcast.training.optimizers import OptimizerConfig
from funnelcast.training.stage_run import Plan
from funnelcast.training.stages import Stage
from funnelcast.training.trainer import Trainer

LOSS = LossConfig(weighting="uncertainty", normalise=True)
"""With learned weights, which have promises to keep too."""
CHANCE = 3.0
"""Standard errors that an AUC may be off 1/2 on noise."""


def trains_by_the_seed(case: Case) -> None:
    """The same model bit for bit from one seed, on one thread or two."""
    train, dev = case.draw(40, 1), case.draw(20, 2)
    one, two = (_trained(case, plan(1, 16, workers=workers), train, dev).fingerprint for workers in (1, 2))
    assert one == two, "two models from one seed"


def moves_every_parameter(case: Case) -> None:
    """An epoch of training changes every parameter of a network, and every learned weight of its losses."""
    rows, how = case.draw(40, 1), plan(1, 16)
    model, weights = fresh(case.recipe, case.inputs, case.funnel, 0), loss_weights(case.recipe, case.funnel, rows)
    before = {name: p.detach().clone() for part in (model, weights) for name, p in part.named_parameters()}
    with TemporaryDirectory() as folder:
        Trainer(model, weights, case.funnel, how, Path(folder)).run(rows, case.draw(20, 2))
    for name, parameter in model.named_parameters():
        assert torch.any(parameter != before[name]), name
    for name, parameter in weights.named_parameters():
        assert torch.all(parameter != before[name]), name


def refuses_settings_of_gradients(case: Case) -> None:
    """Settings that only training by gradients reads are faults of an experiment, each with a reason and a fix."""
    features: dict[str, Any] = {"name": "promises", "funnel": "click", "features": {"user": "categorical"}}
    encoder = Encoder(Schema.from_dict(features), {"user": Vocabulary(pa.array([1]))}, {})
    settings = {"loss": {"focal_gamma": 1.0}, "optimizer": {"clip": 1.0}, "stages": [{"epochs": 2}]}
    model = case.recipe.model_dump(mode="json")
    Experiment.from_dict({"model": model}).check(encoder)
    try:
        Experiment.from_dict({"model": model} | settings).check(encoder)
    except ConfigError as error:
        assert [fault.where for fault in error.faults] == list(settings), error
        assert all("gradients" in fault.problem and fault.fix for fault in error.faults), error
    else:
        raise AssertionError(f"{case.recipe.name} takes settings of gradient training that it does not read")


def learns_64_rows_by_heart(recipe: Recipe) -> None:
    """Labels drawn from nothing are told without an error: by networks from features of every kind; by trees from
    numbers, as what they read of ids in training is such that a row's own label is not in it."""
    kind = "all" if recipe.differentiable else "numeric"
    (case,) = [case for case in cases(recipe) if (case.shape, case.kind) == ("chain of 2", kind)]
    rows = case.draw(64)
    often = rows.take(np.tile(np.arange(64), 4 if recipe.differentiable else 1))  # an epoch's end costs more than it
    log_p, log_q = score(_trained(case, plan(10, 16, rate=0.02, metric="log_loss"), often, rows), rows)
    wrong = int(((log_p > log_q) != (labels_of(rows) == 1)).sum())
    assert not wrong, f"{wrong} of {labels_of(rows).size} labels are not learned"


def learns_the_simulator(recipe: Recipe) -> None:
    """Of the AUC gain that an additive model leaves it finds at least half, at every step."""
    for step, (found, additive, best) in auc_gains(recipe).items():
        assert found >= (additive + best) / 2, f"{step}: AUC gain {found:.4f}, additive {additive:.4f}, best {best:.4f}"


def learns_no_noise(recipe: Recipe) -> None:
    """Where labels have nothing to do with the input, every AUC is 1/2 within its error."""
    for step, (found, error) in gains_auc_on_noise(recipe).items():
        assert abs(found) <= CHANCE * error, f"{step}: AUC gain {found:.4f}, standard error {error:.4f}"


def auc_gains(recipe: Recipe) -> dict[str, tuple[float, float, float]]:
    """AUC - 1/2 on the test rows of the known process by step: of the model, of an additive model, of the truth."""
    parts, truth = simulated_parts(noise=False)
    log_p, _ = score(fitted(recipe, SIMULATED, FUNNEL, parts["train"], parts["dev"], plan(8, 512)), parts["test"])
    columns = zip(
        auc_gains_of(parts["test"], log_p), additive_auc_gains(), auc_gains_of(parts["test"], truth), strict=True
    )
    return dict(zip(FUNNEL.names, columns, strict=True))


def gains_auc_on_noise(recipe: Recipe) -> dict[str, tuple[float, float]]:
    """AUC - 1/2 on the test rows of noise and its standard error, by step."""
    parts, _ = simulated_parts(noise=True)
    log_p, _ = score(fitted(recipe, SIMULATED, FUNNEL, parts["train"], parts["dev"], plan(2, 512)), parts["test"])
    labels = labels_of(parts["test"])
    found = [auc_interval(labels[:, t], log_p[:, t]) for t in range(len(FUNNEL.names))]
    return {name: (each.estimate - 0.5, each.std_error) for name, each in zip(FUNNEL.names, found, strict=True)}


def plan(epochs: int, batch_size: int, *, rate: float = 0.005, metric: str = "auc_mean", workers: int = 1) -> Plan:
    """Gradient training that suits small networks; by `log_loss` it runs to the end."""
    optimizer = OptimizerConfig(learning_rate=rate, batch_size=batch_size)
    stage = Stage(epochs=epochs, patience=epochs if metric == "log_loss" else 1, metric=metric)
    return Plan(LOSS, optimizer, (stage,), seed=0, workers=workers)


def fitted(recipe: Recipe, inputs: InputSpec, funnel: Funnel, train: Columns, dev: Columns, how: Plan) -> Model:
    """A trained model; boosters take of the plan its seed and workers."""
    with TemporaryDirectory() as folder:
        if recipe.differentiable:
            model = fresh(recipe, inputs, funnel, how.seed)
            return Trainer(model, loss_weights(recipe, funnel, train), funnel, how, Path(folder)).run(train, dev)
        boosting = Boosting(cast(LightGBM, recipe), funnel, Path(folder), how.seed, workers=how.workers)
        return boosting.run(cast(LightGBM, recipe).build(inputs, funnel), train, dev)


def fresh(recipe: Recipe, inputs: InputSpec, funnel: Funnel, seed: int) -> FunnelModel:
    """A network with its first parameters."""
    network = cast(NetworkRecipe, recipe)
    model = network.build(inputs, funnel)
    model.reset(network.embedding_init, generator_of(seed, "parameters"))
    return model


def loss_weights(recipe: Recipe, funnel: Funnel, train: Columns) -> LossWeights:
    """The default ones, for the rates of the rows that each step is trained on."""
    parents = funnel.parents if recipe.loss_space == "given_parent" else (-1,) * len(funnel.parents)
    return build_loss_weights(LOSS, rates_given_parent(Batch.of(train), parents))


def _trained(case: Case, how: Plan, train: Columns, dev: Columns) -> Model:
    return fitted(case.recipe, case.inputs, case.funnel, train, dev, how)
