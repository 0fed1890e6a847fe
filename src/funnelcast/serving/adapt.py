"""Adapting a bundle's network to labelled raw rows."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import torch
from torch import nn

from funnelcast.boosting.stacked import network_of
from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns
from funnelcast.errors import FunnelcastError, InputError
from funnelcast.evaluation.score import score
from funnelcast.models.network import FunnelModel
from funnelcast.ops.reach import Reach, logits_given_parent
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.delta import Delta
from funnelcast.serving.new_ids import NewEncoder
from funnelcast.serving.support import of_key, read_support
from funnelcast.training.adaptation import Adapted, adapt
from funnelcast.training.adapting import Adapting
from funnelcast.training.objective import replica
from funnelcast.training.overlay import NewIds
from funnelcast.training.statistics import step_rows


def adapt_rows(bundle: Bundle, table: pa.Table, config: Adapting, key: dict[str, str]) -> Delta:
    """What adapting to the rows of a key changes. Raises InputError for rows that cannot be learned from,
    FunnelcastError for a bundle without a network."""
    if bundle.starting is None:
        raise FunnelcastError(
            f"the bundle holds {bundle.experiment['model']['name']}, which has no parameters to adapt; train a "
            "network, such as man"
        )
    if len(key) > 1:
        raise InputError(f"a key is one column and its value, not {len(key)}; join the columns to one")
    for column, value in key.items():
        if not isinstance(value, str):
            raise InputError(f"the value of a key is text, not {value!r}; write {{{column!r}: '{value}'}}")
    model, encoder = network_of(bundle.model), bundle.encoder
    support = read_support(of_key(table, key), encoder.schema)
    columns = replace(encoder.encode(support.rows), labels=support.labels, weight=support.weight)
    values = _new_values(model, bundle, support.rows) if config.new_ids != "none" else {}
    new = NewEncoder(encoder, values)
    over = NewIds(new.inputs(), Batch.of(new.encode(support.rows))) if values else None
    model = _as_calibrated(bundle, model, columns)
    found = adapt(model, bundle.starting, Batch.of(columns), config, new=over)
    positives = dict(zip(encoder.schema.funnel.names, (support.labels == 1).sum(0).tolist(), strict=True))
    delta = Delta(bundle.fingerprint, key, len(support.labels), support.dropped, positives, found.losses)
    return _filled(delta, model, found, values)


def _as_calibrated(bundle: Bundle, model: FunnelModel, rows: Columns) -> FunnelModel:
    """The network with biases that say of the rows, in the mean, what the calibrated bundle says of them: so that
    adapting does not correct once more what calibration has corrected."""
    calibration, along = bundle.calibration, model.logit_parents
    if calibration is None or calibration.is_identity:
        return model
    assert rows.labels is not None and model.output.bias is not None
    batch, reach = Batch.of(rows), Reach(*map(torch.from_numpy, score(bundle.model, rows, bundle.keep_negatives)))
    before, after = (logits_given_parent(each, along) for each in (reach, calibration(reach, batch)))
    information = torch.from_numpy(step_rows(rows.labels, along)) * torch.sigmoid(after) * torch.sigmoid(-after)
    information = information if batch.weight is None else information * batch.weight[:, None]
    shift = (information * (after - before)).sum(0) / information.sum(0).clamp(min=torch.finfo(torch.float64).tiny)
    own, bias = replica(model), model.output.bias.detach()
    own.output.bias = nn.Parameter(bias + shift.repeat(model.members).reshape(bias.shape).to(bias))
    return own


def _filled(delta: Delta, model: FunnelModel, found: Adapted, values: dict[str, pa.Array]) -> Delta:
    own = dict(model.named_parameters())
    changes = {name: (adapted - own[name]).detach() for name, adapted in found.parameters.items()}
    if not all(bool(t.isfinite().all()) for t in (*changes.values(), *found.new.values())):
        return replace(delta, reason="steps on all rows diverge; set a lower learning_rate")
    if found.alike:
        return replace(delta, reason="the tasks of its training do not differ; to adapt all the same, set prior = 2")
    delta = replace(delta, statistics=found.statistics, statistics_loss=found.statistics_loss)
    if not found.steps and found.statistics:
        return delta
    if not found.steps:
        return replace(delta, reason=f"no step lowers the held-out loss of {found.losses[0]:.5g}")
    new = {name: (values[name], rows) for name, rows in found.new.items()}
    return replace(delta, steps=found.steps).with_changes(changes, new)


def _new_values(model: FunnelModel, bundle: Bundle, rows: pa.RecordBatch) -> dict[str, pa.Array]:
    """By vocabulary that learns, the values in the rows that it does not know."""
    learns = {name for t in model.embedding.all_tables() if t.weight.requires_grad for name in t.sizes}
    return {name: values for name, values in bundle.encoder.unknown(rows).items() if name in learns and len(values)}
