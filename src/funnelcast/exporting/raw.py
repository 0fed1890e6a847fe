"""`raw.onnx`: raw values in, with the vocabularies and the scales of numbers in the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from funnelcast.data.encoder import Encoder
from funnelcast.data.numeric import LARGEST, Bins, Standard
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.exporting.feed import Feed, missing_value
from funnelcast.exporting.graph import Read
from funnelcast.exporting.rows import Padded, Rows
from funnelcast.runtime.extras import require_extra

LARGEST_VOCABULARIES: Final = 1_000_000_000
"""Bytes of vocabularies that one file may hold: they cannot stand next to it, and protobuf ends at 2 GiB."""
LABEL_ENCODER_OPSET: Final = 4
"""Of the operators `ai.onnx.ml`."""


def id_inputs(encoder: Encoder) -> dict[str, Vocabulary]:
    """The vocabulary of every input that holds raw ids."""
    schema = encoder.schema
    return {
        name: encoder.vocabularies[schema.vocabulary(name)]
        for name, feature in schema.features.items()
        if feature.kind != "numeric"
    }


def vocabulary_bytes(encoder: Encoder) -> int:
    """What the vocabularies take in a model; one that several features share stands there once for each."""
    return sum(vocabulary.values.nbytes + 8 * len(vocabulary) for vocabulary in id_inputs(encoder).values())


def looked_up(encoder: Encoder, feed: Feed) -> Feed:
    """A feed of raw values as what stands behind the vocabularies, for tracing: ids (…) int64, all of them 0."""
    raw = id_inputs(encoder)
    return {name: np.zeros(array.shape, np.int64) if name in raw else array for name, array in feed.items()}


def raw_rows(encoder: Encoder) -> Read:
    """What makes rows of a feature's values: ids (B,) or (B, L) int64 that were looked up, numbers (B,) float64."""
    inputs = encoder.inputs

    def read(tensors: Mapping[str, Tensor]) -> Rows:
        rows = next(iter(tensors.values())).shape[0]
        fields = [_field(encoder.numbers.get(name), tensors[name]) for name, _ in inputs.fields]
        numeric = [_scaled(encoder.numbers[name], tensors[name]) for name in inputs.numeric]
        lists = {}
        for each in inputs.lists:
            weights = tensors.get(f"{each.name}.weights")
            weights = None if weights is None else _number(weights)
            lists[each.name] = Padded.of(each, tensors[each.name], tensors[f"{each.name}.length"], weights)
        ids = torch.stack(fields, 1).int() if fields else torch.zeros(rows, 0, dtype=torch.int32)
        return Rows(ids, torch.stack(numeric, 1) if numeric else torch.zeros(rows, 0), lists)

    return read


def _field(bins: Standard | Bins | None, values: Tensor) -> Tensor:
    """As `Bins` of numbers; ids as they are."""
    if not isinstance(bins, Bins):
        return values
    ids = 1 + torch.bucketize(values, torch.tensor(bins.edges, dtype=torch.float64), right=True)
    return torch.where(_is_finite(values), ids, 0)


def _scaled(transform: Standard | Bins, values: Tensor) -> Tensor:
    """As `Standard`, (B,) float32."""
    assert isinstance(transform, Standard)
    return _number((torch.where(_is_finite(values), values, transform.mean) - transform.mean) / transform.std)


def _number(values: Tensor) -> Tensor:
    """Float32, with 0 for what is not finite."""
    return torch.where(_is_finite(values), values, 0.0).clamp(-LARGEST, LARGEST).float()


def _is_finite(values: Tensor) -> Tensor:
    return values.abs() < torch.inf


def put_vocabularies(model: Any, vocabularies: Mapping[str, Vocabulary]) -> None:
    """Put a LabelEncoder behind every input that has a vocabulary: raw values come in, and unknown ones are id 0."""
    ir = require_extra("onnxscript", "onnx", "exporting to ONNX").ir
    graph = model.graph
    graph.opset_imports["ai.onnx.ml"] = LABEL_ENCODER_OPSET
    for place, ids in enumerate(graph.inputs):
        vocabulary = vocabularies.get(ids.name)
        if vocabulary is None:
            continue
        kind = ir.DataType.INT64 if vocabulary.is_integer else ir.DataType.STRING
        raw = ir.Value(name=ids.name, shape=ids.shape, type=ir.TensorType(kind))
        ids.name = f"{raw.name}.ids"
        node = ir.node("LabelEncoder", [raw], _pairs(vocabulary), domain="ai.onnx.ml")
        ir.convenience.replace_all_uses_with(ids, node.outputs[0])
        node.outputs[0].name, node.outputs[0].shape, node.outputs[0].type = ids.name, ids.shape, ids.type
        graph.insert_before(graph[0], node)
        graph.inputs[place] = raw


def _pairs(vocabulary: Vocabulary) -> dict[str, Any]:
    """Attributes of a LabelEncoder; of an empty vocabulary it has a value that is unknown, for it needs one."""
    values = vocabulary.values.to_pylist() or [missing_value(vocabulary)]
    ids = list(range(1, len(values) + 1)) if not vocabulary.is_empty else [0]
    keys = "keys_int64s" if vocabulary.is_integer else "keys_strings"
    return {keys: values, "values_int64s": ids, "default_int64": 0}
