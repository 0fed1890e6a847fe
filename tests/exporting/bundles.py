"""Bundles of the contract suite's cases: a recipe on a kind of features, with an encoder whose ids are the case's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa

from funnelcast.data.encoder import Encoder
from funnelcast.data.numeric import Bins, Piecewise, Standard
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.registry import recipe_of
from funnelcast.schema.dataset import Schema
from funnelcast.serving.bundle import Bundle
from funnelcast.testing.cases import BIN_EDGES, FIELDS, MULTI, NUMBERS, SEQUENCES, SIZES, Case, cases
from tests.models.test_contracts import TABLE

FEATURES: dict[str, dict[str, Any]] = {
    **{name: {"kind": "categorical", "vocabulary": vocabulary} for name, vocabulary in FIELDS},
    **{name: {"kind": "numeric", "transform": "piecewise" if name in BIN_EDGES else "standard"} for name in NUMBERS},
    **{each.name: {"kind": "multi", "vocabulary": each.vocabulary} for each in MULTI},
    **{
        each.name: {"kind": "sequence", "vocabulary": each.vocabulary, "max_length": each.max_length}
        for each in SEQUENCES
    },
}
FEATURES["topics"]["weights"] = "topic_weights"


def case_of(name: str, kind: str, shape: str = "chain of 2", **settings: Any) -> Case:
    """Of a small recipe."""
    found = cases(recipe_of(TABLE[name].small | {"name": name} | settings))
    return next(case for case in found if (case.shape, case.kind) == (shape, kind))


def bundle_of(case: Case, **changes: Any) -> Bundle:
    """With random parameters; ids of items are numbers, all others texts."""
    inputs, encoder = case.inputs, encoder_of(case)
    assert replace(encoder.inputs, sizes=inputs.sizes, bin_edges=inputs.bin_edges) == inputs
    experiment = {"model": case.recipe.model_dump(mode="json"), "keep_negatives": 1.0, **changes}
    return Bundle(case.model, encoder, experiment, {"name": "case", "fingerprint": "0" * 12}, [0.2, 0.1], {})


def encoder_of(case: Case) -> Encoder:
    names = {*dict(case.inputs.fields), *case.inputs.numeric, *(each.name for each in case.inputs.lists)}
    funnel = "; ".join(s.name + (f" after {s.after}" if s.after else "") for s in case.funnel.steps)
    features = {name: feature for name, feature in FEATURES.items() if name in names}
    schema = Schema.from_dict({"name": "case", "funnel": funnel, "features": features})
    vocabularies = {
        name: Vocabulary(pa.array(range(3, 2 + size) if name == "item" else [f"{name} {i}" for i in range(1, size)]))
        for name, size in SIZES.items()
        if name in case.inputs.sizes
    }
    numbers: dict[str, Standard | Bins] = {
        name: Piecewise(mean=0, std=1, edges=BIN_EDGES[name]) if name in BIN_EDGES else Standard(mean=0, std=1)
        for name in case.inputs.numeric
    }
    return Encoder(schema, vocabularies, numbers)
