"""Starting from a bundle: parameters are copied, ids that are new get new rows; target statistics are carried over."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from funnelcast.boosting.stacked import network_of
from funnelcast.data.encoder import Encoder
from funnelcast.data.statistics import TargetStatistics
from funnelcast.errors import FunnelcastError
from funnelcast.layers.lists import Pool
from funnelcast.layers.statistics import StatisticsLayer
from funnelcast.models.network import FunnelModel
from funnelcast.registry import AnyRecipe, recipe_of
from funnelcast.serving.bundle import Bundle


def require_networks(recipe: AnyRecipe, init: Bundle) -> None:
    """Raises FunnelcastError unless the experiment's model and the bundle's both have parameters to copy."""
    before = init.experiment["model"]
    if not recipe.differentiable:
        raise FunnelcastError(
            f"{recipe.name} cannot start from a bundle: its boosters are always fitted to the rows; leave out --init"
        )
    if not recipe_of(before).differentiable:
        raise FunnelcastError(
            f"the bundle holds {before['name']}, which has no parameters to start from; leave out --init"
        )


def grown_encoder(encoder: Encoder, init: Bundle) -> Encoder:
    """The table's encoder with the bundle's other ids after its own, so that nothing the bundle knows is lost.

    Raises FunnelcastError when features or scalings differ.
    """
    before = init.encoder
    if before.schema.features != encoder.schema.features or before.schema.funnel != encoder.schema.funnel:
        raise FunnelcastError("the bundle was trained on other features or another funnel; use the same schema")
    for name, vocabulary in encoder.vocabularies.items():
        known = before.vocabularies[name]
        if not (known.is_empty or vocabulary.is_empty) and known.is_integer != vocabulary.is_integer:
            kinds = ("integers", "strings") if vocabulary.is_integer else ("strings", "integers")
            raise FunnelcastError(
                f"vocabulary {name!r} has {kinds[0]} in the table, {kinds[1]} in the bundle; convert the log's column"
            )
    if before.numbers != encoder.numbers:
        raise FunnelcastError(
            "the table scales its numbers in another way than the bundle; prepare it with --init BUNDLE"
        )
    old = before.vocabularies
    return replace(encoder, vocabularies={k: v.grown(old[k].values) for k, v in encoder.vocabularies.items()})


@torch.no_grad()
def warm_start(model: FunnelModel, encoder: Encoder, init: Bundle, keep_negatives: float = 1.0) -> None:
    """Copy the bundle's parameters, embedding rows by the value they stand for. Where it was trained with another share
    of negatives, the odds of the first step are divided by the new share, and no longer by the old one.

    Target statistics are the bundle's, by the encoder's ids, until those of the training rows are fitted.

    Raises FunnelcastError when the recipes differ, or a head has no such step.
    """
    before = network_of(init.model)
    _require_same_statistics(before.statistics, model.statistics)
    if before.head != model.head:
        raise FunnelcastError(f"the bundle has the head {before.head!r}, not {model.head!r}; use its [model] settings")
    own = model.state_dict()
    dense = {k: v for k, v in before.state_dict().items() if not k.startswith("embedding.")}
    if {k: v.shape for k, v in own.items() if not k.startswith("embedding.")} != {k: v.shape for k, v in dense.items()}:
        raise FunnelcastError("the bundle holds another model; use its [model] settings")
    if _pools(before) != _pools(model):
        raise FunnelcastError(
            f"the bundle pools its lists by {_pools(before)}, not {_pools(model)}; use its [model.pooling] settings"
        )
    model.load_state_dict(dense, strict=False)
    if keep_negatives != init.keep_negatives:
        _move_first_step(model, init.keep_negatives, keep_negatives)
    indices = {name: _indices(name, encoder, init) for name in init.encoder.vocabularies}
    if model.statistics is not None and before.statistics is not None:
        carry_over(before.statistics, model.statistics, indices)
    _keep(before, model, indices)
    source = _blocks(before)
    for name, rows in _blocks(model).items():
        if source[name].shape[1] != rows.shape[1]:
            raise FunnelcastError(
                f"vocabulary {name!r} has another embedding size in the bundle; use its [model] settings"
            )
        if name in indices:
            rows[torch.from_numpy(indices[name])] = source[name]
        else:
            rows.copy_(source[name])


def _keep(before: FunnelModel, model: FunnelModel, indices: Mapping[str, NDArray[np.int64]]) -> None:
    """Ids with a row of their own in the bundle keep it, whatever their rows in the new log."""
    known = {name: kept for table in before.embedding.all_tables() for name, kept in table.kept_blocks().items()}
    for table in model.embedding.all_tables():
        for name, kept in table.kept_blocks().items():
            at = torch.from_numpy(indices[name]) if name in indices else torch.arange(len(kept))
            kept.zero_()
            kept[at] = known.get(name, torch.ones(len(at), dtype=torch.bool)).to(kept.device)


def _indices(name: str, encoder: Encoder, init: Bundle) -> NDArray[np.int64]:
    """(ids of the bundle,): the encoder's ids of the same values; 0 stays 0."""
    known = encoder.vocabularies[name]
    values = init.encoder.vocabularies[name].values.cast(known.values.type)
    return np.append(0, known.ids(values, name)).astype(np.int64)


def _require_same_statistics(before: StatisticsLayer | None, own: StatisticsLayer | None) -> None:
    said = ["no target statistics" if each is None else _described(each) for each in (before, own)]
    if said[0] != said[1]:
        raise FunnelcastError(f"the bundle reads {said[0]}, not {said[1]}; use its [model.statistics] settings")


def _described(layer: StatisticsLayer) -> str:
    return f"target statistics of {', '.join(layer.names) or 'nothing'}, numbers in {layer.bins} bins"


def carry_over(before: StatisticsLayer, layer: StatisticsLayer, indices: Mapping[str, NDArray[np.int64]]) -> None:
    """Let a layer have the statistics of `before`. `indices`: by vocabulary, its id of each id of the other one; those
    without are the same in both."""
    fitted, inputs = before.fitted, layer.inputs
    if fitted.everyone is None:
        return
    layer.set(TargetStatistics(fitted.edges))
    vocabularies = dict(inputs.fields) | {each.name: each.vocabulary for each in inputs.lists}
    old, new, pairs = before.categories(), layer.categories(), dict[str, NDArray[np.int64]]()
    of = {
        name: indices[vocabularies[name]] if vocabularies.get(name) in indices else np.arange(size)
        for name, size in before.sizes.items()
    }
    for name, own in before.pairs().items():
        first, second = (of[part][codes] for part, codes in zip(before.crosses[name], own.parts(), strict=True))
        numbers = first * layer.pairs()[name].second.size + second
        order = np.argsort(numbers)
        pairs[name] = numbers[order]
        of[name] = np.append(0, 1 + np.argsort(order))
    sizes = {name: len(pairs[name]) + 1 if name in pairs else new[name].size for name in old}
    tallies = {name: tally.placed(of[name], sizes[name]) for name, tally in fitted.tallies.items()}
    layer.set(replace(fitted, pairs=pairs, tallies=tallies))


def _move_first_step(model: FunnelModel, before: float, after: float) -> None:
    if model.head != "chain":  # every later step would move with each row's own probability of the first
        raise FunnelcastError(f"the bundle was trained with keep_negatives = {before:g}, not {after:g}; use the same")
    assert model.output.bias is not None
    model.output.bias.view(model.members, -1)[:, model.parents.index(-1)] += math.log(before / after)


def _pools(model: FunnelModel) -> dict[str, Pool | None]:
    """How each list becomes one vector; none where it has parameters of its own, which are compared by their shapes."""
    return {name: pool for table in model.embedding.all_tables() for name, pool in table.pools.items()}


def _blocks(model: FunnelModel) -> dict[str, Tensor]:
    return {name: rows for table in model.embedding.all_tables() for name, rows in table.blocks().items()}
