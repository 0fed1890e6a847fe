"""How training went, as figures by epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from funnelcast.reports.drawing.curves import paint_curves
from funnelcast.reports.drawing.svg import Picture, picture

Epochs = Sequence[Mapping[str, Any]]


def training_curves(epochs: Epochs, stem: str) -> Iterator[Picture]:
    """AUC on the dev rows, training loss, and the steps' weights where they change."""
    stages, kept = stages_of(epochs), kept_of(epochs)
    draw = partial(paint_curves, stages=stages, kept=kept)
    if aucs := _curves(epochs, "dev_auc"):
        caption = (
            "Ring: the epoch that was kept. A curve that still rises wants more epochs; one that falls early, fewer or "
            "more regularisation. Steps that peak at different epochs share one choice."
        )
        yield picture(f"{stem}learning", "AUC on the dev rows", caption, partial(draw, curves=aucs, label="AUC, dev"))
    if losses := _curves(epochs, "loss"):
        caption = (
            "Mean loss a row while training, by step. It falls as long as the model learns its rows by heart; beside "
            "a falling AUC on the dev rows that is overfitting."
        )
        paint = partial(draw, curves=losses, label="loss, nats")
        yield picture(f"{stem}loss", "Training loss", caption, paint)
    weights = _curves(epochs, "task_weights")
    if any(max(values) - min(values) > 1e-9 for values in weights.values()):
        caption = "What each step's loss counts. A weight far beyond the others' lets one step rule what is shared."
        paint = partial(draw, curves=weights, label="weight")
        yield picture(f"{stem}weights", "Weights of the steps", caption, paint)


def stages_of(epochs: Epochs) -> dict[int, str]:
    """Names of stages by the number of epochs before them."""
    found: dict[int, str] = {}
    for place, epoch in enumerate(epochs):
        stage = str(epoch.get("stage", ""))
        if not found or list(found.values())[-1] != stage:
            found[place] = stage
    return found


def kept_of(epochs: Epochs) -> list[int]:
    """The best epoch of each stage, counted from 1."""
    best: dict[str, int] = {}
    for place, epoch in enumerate(epochs, 1):
        if epoch.get("is_best"):
            best[str(epoch.get("stage", ""))] = place
    return sorted(best.values())


def _curves(epochs: Epochs, key: str) -> dict[str, list[float]]:
    names = dict.fromkeys(name for epoch in epochs for name in epoch.get(key) or {})
    curves = {name: [_value((epoch.get(key) or {}).get(name)) for epoch in epochs] for name in names}
    return {name: values for name, values in curves.items() if any(map(math.isfinite, values))}


def _value(value: float | None) -> float:
    return math.nan if value is None else float(value)
