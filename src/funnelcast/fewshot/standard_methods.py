"""The methods that a few-shot figure compares."""

from __future__ import annotations

from typing import cast

from funnelcast.data.columns import Columns
from funnelcast.errors import ComparisonError
from funnelcast.evaluation.rows import Array
from funnelcast.experiments.experiment import Experiment
from funnelcast.fewshot.from_scratch import Scratch
from funnelcast.fewshot.methods import Adapted, Method, Recalibrated, SmoothedRate, Unadapted
from funnelcast.fewshot.tasks import TaskOutput
from funnelcast.models.network import NetworkRecipe
from funnelcast.serving.bundle import Bundle
from funnelcast.training.adapting import Adapting

META_ADAPTED, META = "meta-trained, adapted", "meta-trained, not adapted"
PLAIN_ADAPTED, PLAIN = "plain, adapted", "plain, not adapted"
OFFSET, SCRATCH, OWN_RATE = "plain, offset alone", "from scratch", "rate of the task"


def standard_methods(
    meta: Bundle, plain: Bundle, target: TaskOutput, rows: Columns, groups: Array, config: Adapting | None = None
) -> dict[str, Method]:
    """By name: both networks, as they are and adapted in the inner steps that the meta-trained one was trained with;
    the plain one with an offset of its logit; a network from scratch with the plain one's recipe; and a rate alone.

    `rows`, `groups` (N,): training rows and their tasks, which tell how offsets and rates differ; too little of offsets
    where the networks read the task itself. Raises ComparisonError unless both bundles are networks of the same funnel
    and ids.
    """
    config = config or Adapting()
    _require_alike(meta, plain)
    return {
        META_ADAPTED: _adapted(meta, target, config),
        META: _unadapted(meta, target),
        **methods_of(plain, target, rows, groups, _steps_of(meta, config)),
    }


def methods_of(
    plain: Bundle, target: TaskOutput, rows: Columns, groups: Array, config: Adapting | None = None
) -> dict[str, Method]:
    """`standard_methods` of one network alone."""
    adapted, unadapted = _adapted(plain, target, config or Adapting()), _unadapted(plain, target)
    experiment = Experiment.from_dict(plain.experiment)
    return {
        PLAIN_ADAPTED: adapted,
        OFFSET: Recalibrated.fit(unadapted, rows, groups),
        PLAIN: unadapted,
        OWN_RATE: SmoothedRate.fit(target, rows, groups),
        SCRATCH: Scratch(cast(NetworkRecipe, experiment.model), plain.encoder, target, experiment.loss),
    }


def _adapted(bundle: Bundle, target: TaskOutput, config: Adapting) -> Adapted:
    if bundle.starting is None:
        raise ComparisonError(
            f"the bundle holds {bundle.experiment['model']['name']}, which cannot adapt; give a network"
        )
    return Adapted(bundle.model, bundle.starting, config, target)


def _steps_of(bundle: Bundle, config: Adapting) -> Adapting:
    """With what `config` leaves open as in the bundle's training."""
    inner = bundle.starting and bundle.starting.inner
    names = [name for name in ("inner", "learning_rate", "steps") if getattr(config, name) is None]
    return config if inner is None else config.model_copy(update={name: getattr(inner, name) for name in names})


def _unadapted(bundle: Bundle, target: TaskOutput) -> Unadapted:
    return Unadapted(bundle.model, target, bundle.keep_negatives)


def _require_alike(meta: Bundle, plain: Bundle) -> None:
    schemas = [bundle.encoder.schema for bundle in (meta, plain)]
    if schemas[0] != schemas[1] or meta.encoder.inputs != plain.encoder.inputs:
        raise ComparisonError("the bundles have not the same features, ids and funnel; train both on one table")
