"""The inputs and outputs of a model in the terms of the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from funnelcast.data.encoder import Encoder
from funnelcast.errors import InputError, did_you_mean

LENGTHS: Final = ".lengths"
"""Of a list's input, an input with the length of each row's list."""
VALID: Final = ".valid"
"""Of any input, an input that is false where a row's value is missing."""


@dataclass(frozen=True)
class Input:
    """A column that the model reads."""

    name: str
    datatype: str
    is_list: bool = False
    separator: str | None = None
    """What parts a list that is sent as one text."""
    about: str = ""


@dataclass(frozen=True)
class Signature:
    """All of a model's inputs, by name, and the names of its outputs."""

    inputs: dict[str, Input]
    outputs: tuple[str, ...]

    @classmethod
    def of(cls, encoder: Encoder, key: str | None = None) -> Signature:
        """Of what an encoder reads, and of the column that chooses deltas."""
        inputs = {each.name: each for name in encoder.schema.features for each in _inputs(encoder, name)}
        if key is not None:
            inputs.setdefault(key, Input(key, "BYTES", about="chooses the delta"))
        return cls(inputs, tuple(output.column for output in encoder.schema.funnel.outputs))

    def metadata(self) -> dict[str, Any]:
        """`inputs` and `outputs` as the protocol lists them."""
        inputs = [_described(each.name, each.datatype) for each in self.inputs.values()]
        lengths = [_described(each.name + LENGTHS, "INT64") for each in self.inputs.values() if each.is_list]
        return {"inputs": inputs + lengths, "outputs": [_described(name, "FP64") for name in self.outputs]}

    def knows(self, name: str) -> bool:
        """Whether the model has the input."""
        return name in self.inputs or _owner(name) in self.inputs

    def require_known(self, names: Iterable[str]) -> None:
        """Raises InputError for an input that the model has not."""
        for name in names:
            if not self.knows(name):
                raise InputError(f"the model has no input {name!r}; {did_you_mean(_owner(name), self.inputs)}")

    def require_outputs(self, names: Iterable[str]) -> None:
        """Raises InputError for an output that the model has not."""
        for name in names:
            if name not in self.outputs:
                raise InputError(f"the model has no output {name!r}; {did_you_mean(name, self.outputs)}")


def _owner(name: str) -> str:
    return name.removesuffix(LENGTHS).removesuffix(VALID)


def _inputs(encoder: Encoder, name: str) -> list[Input]:
    feature, column = encoder.schema.features[name], encoder.schema.column(name)
    if feature.kind == "numeric":
        return [Input(column, "FP64", about="number, NaN where it is missing")]
    vocabulary = encoder.vocabularies[encoder.schema.vocabulary(name)]
    datatype = "INT64" if vocabulary.is_integer else "BYTES"
    if feature.kind == "categorical":
        return [Input(column, datatype, about="id, of any value")]
    own = Input(column, datatype, True, feature.separator, "list of ids")
    if feature.kind == "sequence" or feature.weights is None:
        return [own]
    return [own, Input(feature.weights, "FP64", True, feature.separator, f"weight of each id in {column}")]


def _described(name: str, datatype: str) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [-1]}
