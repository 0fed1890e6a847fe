"""What a bundle keeps of its network's training, for whoever adapts it.

BUNDLE/bundle.json          under "starting": loss weights, and what a task of the training told; none of boosters
BUNDLE/factors.safetensors  what inner steps are multiplied by, where that was learned
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from funnelcast.training.adapting import Starting
from funnelcast.training.algorithms import Inner
from funnelcast.training.losses import LossConfig
from funnelcast.training.stages import Stage

_FACTORS = "factors.safetensors"
_SAID = ("weights", "information", "differences")


def inner_of(stages: Sequence[Stage]) -> Inner | None:
    """The inner loop of the last meta stage, if there is one; it adapts what that stage trains."""
    for stage in reversed(stages):
        if stage.meta is not None:
            own = [group for group in stage.meta.groups if group in stage.groups]
            return stage.meta.model_copy(update={"inner": tuple(own)})
    return None


def save_starting(starting: Starting, folder: Path) -> dict[str, Any]:
    """Write the learned factors, if there are some; returns what `bundle.json` is to say."""
    if starting.factors:
        save_file({name: factor.cpu().contiguous() for name, factor in starting.factors.items()}, folder / _FACTORS)
    return {name: list(getattr(starting, name)) for name in _SAID}


def load_starting(said: dict[str, Any], experiment: dict[str, Any], folder: Path) -> Starting:
    """What `save_starting` wrote, with the settings of the experiment."""
    factors = load_file(folder / _FACTORS) if (folder / _FACTORS).is_file() else {}
    stages = [Stage.from_dict(stage) for stage in experiment["stages"]]
    loss, keep = LossConfig.from_dict(experiment["loss"]), float(experiment["keep_negatives"])
    numbers = {name: said[name] for name in _SAID}
    return Starting(loss, inner=inner_of(stages), factors=factors, keep_negatives=keep, **numbers)
