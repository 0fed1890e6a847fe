"""A bundle that can adapt, rows to adapt it to, and what came of that."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cache
from typing import Any, cast

import numpy as np
import pyarrow as pa

from funnelcast.data.encoder import Encoder
from funnelcast.models.network import FunnelModel
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.delta import Delta
from funnelcast.serving.predictor import Predictor
from funnelcast.training.adapting import Adapting, Starting
from funnelcast.training.losses import LossConfig
from tests import tiny
from tests.serving.test_bundle import bundle_of

STARTING = Starting(LossConfig(weighting="uncertainty", normalise=True), [1.0, 1.0], None, [0.0, 0.0], {}, [])
FEW = Adapting(steps=3, folds=2, offsets=False, new_ids="none")


def adaptable(encoder: Encoder | None = None, **changes: Any) -> Bundle:
    """As if trained plainly."""
    return replace(bundle_of(encoder, **changes), starting=STARTING)


@cache
def base() -> Predictor:
    return Predictor(adaptable())


def support(rows: int = 60, seed: int = 0, reached: float = 0.95, **columns: Any) -> pa.Table:
    """Of which a share reached every step, so that steps help; with other `columns`."""
    labels = (np.random.default_rng(seed).random(rows) < reached).astype(np.int8)
    return with_columns(tiny.draw_log(rows, seed), **{"click": labels, "conversion": labels, **columns})


def with_columns(table: pa.Table, **columns: Any) -> pa.Table:
    """With these in place of its own, or beside them; one value is that of all rows."""
    for name, values in columns.items():
        is_one = isinstance(values, (int, float, str))
        column = pa.array([values] * len(table) if is_one else values)
        place = table.column_names.index(name) if name in table.column_names else len(table.column_names)
        table = table.drop_columns([name]) if name in table.column_names else table
        table = table.add_column(place, name, column)
    return table


@cache
def delta(campaign: str = "", reached: float = 0.95) -> Delta:
    """For the rows of a campaign, or for all; without new ids."""
    rows = support(reached=reached).drop_columns(["campaign"])
    found = base().adapt(rows, FEW, {"campaign": campaign} if campaign else {})
    assert found.steps > 0 and found.changes
    return found


def empty(campaign: str) -> Delta:
    return Delta(base().bundle.fingerprint, {"campaign": campaign}, 9, 0, {}, [0.5, 0.6], reason="none helps")


def network(bundle: Bundle) -> FunnelModel:
    return cast(FunnelModel, bundle.model)


def copied(found: Delta) -> Predictor:
    """A plain network that has the adapted parameters as its own."""
    model = deepcopy(network(base().bundle))
    model.load_state_dict({**model.state_dict(), **found.parameters(model.state_dict())})
    return Predictor(replace(base().bundle, model=model))


def p_of(predictor: Predictor, rows: Any, columns: Sequence[str] = ("p_click", "p_conversion")) -> Any:
    """(N, 2)."""
    p = predictor.predict(rows)
    return np.stack([np.asarray(p[column]) for column in columns], 1)
