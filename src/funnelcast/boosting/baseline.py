"""LightGBM as a baseline: settings that are as good as any of ours on real funnels, and quick."""

from __future__ import annotations

from funnelcast.boosting.fit import Boosting
from funnelcast.boosting.lightgbm import LightGBM
from funnelcast.data.table import Table
from funnelcast.errors import FunnelcastError
from funnelcast.models.base import Model

LIMIT = 1_000_000
"""LightGBM is fitted below so many training rows."""
SETTINGS = LightGBM(ids="target_statistics", loss_space="given_parent", learning_rate=0.1, patience=10, rounds=500)
"""The better of our settings on real funnels, with larger steps: it is to take seconds."""


def fit_baseline(table: Table, seed: int, workers: int) -> Model | None:
    """Early stopping by the dev rows. None where lightgbm is missing, training rows are too many, or the dev rows lack
    those of a step."""
    train, dev, inputs, funnel = table.part("train"), table.part("dev"), table.encoder.inputs, table.schema.funnel
    if len(train) >= LIMIT or SETTINGS.check(inputs, funnel):
        return None
    boosting = Boosting(SETTINGS, funnel, None, seed, workers=workers)
    try:
        return boosting.run(SETTINGS.build(inputs, funnel), train, dev)
    except FunnelcastError:
        return None
