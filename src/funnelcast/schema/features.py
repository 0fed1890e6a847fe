"""Features a user declares: what a column means and how it becomes model input."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from funnelcast.schema.config import Config

Name = Annotated[str, Field(min_length=1)]
"""Of a column or a vocabulary."""


class Feature(Config):
    """What every kind of feature has."""

    column: Name | None = None
    """The column in the raw data; the feature's own name by default."""


class IdFeature(Feature):
    """What every feature made of ids has."""

    vocabulary: Name | None = None
    """Fields that name the same vocabulary share ids and embeddings; the feature's own name by default."""
    min_count: int = Field(default=1, ge=1, le=1_000_000_000)
    """An id is kept when it occurs this often in the training rows; rarer ones become the unknown id 0."""


class Categorical(IdFeature):
    """One id per row: an integer or a string. Missing and unknown ids are id 0."""

    kind: Literal["categorical"] = "categorical"
    """One id per row."""


class Numeric(Feature):
    """One number per row, fitted on the training rows."""

    kind: Literal["numeric"] = "numeric"
    """One number per row."""
    transform: Literal["standard", "piecewise", "bins"] = "standard"
    """`standard`: (x - mean) / std, missing is 0. `piecewise`: the same, and networks have a slope for each of its bins
    and not one for all; for numbers that lie unevenly, such as amounts. `bins`: the index of a training quantile,
    embedded like an id, missing is id 0."""
    bins: int = Field(default=32, ge=2, le=65536)
    """Number of quantile bins; equal quantiles collapse into one. With `piecewise`, values that would fill a bin are
    edges of their own, and the quantiles are of the others."""

    @model_validator(mode="after")
    def _check_bins(self) -> Self:
        if self.transform == "standard" and self.bins != type(self).model_fields["bins"].default:
            raise ValueError(f"bins = {self.bins} has no effect with transform = 'standard'; set 'piecewise' or 'bins'")
        return self


class ListFeature(IdFeature):
    """What every feature with a list of ids per row has."""

    separator: Annotated[str, Field(min_length=1)] | None = None
    """What parts the ids, and their weights, where a list is a text, as `"|"` in `12|7|93`; lists are read as they are.
    """

    @model_serializer(mode="wrap")
    def _without_default(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Said where it is set alone: a schema without it has the fingerprint that it had before there was one."""
        said: dict[str, Any] = written(self)
        return said if self.separator is not None else {k: v for k, v in said.items() if k != "separator"}


class MultiValued(ListFeature):
    """Any number of ids per row, in no order, with optional weights (lists of equal length)."""

    kind: Literal["multi"] = "multi"
    """A list of ids per row."""
    weights: Name | None = None
    """Column with one weight per id; 1 each by default."""


class Sequence(ListFeature):
    """Ids in order, oldest first; the newest `max_length` are kept."""

    kind: Literal["sequence"] = "sequence"
    """An ordered list of ids per row."""
    max_length: int = Field(default=50, ge=1, le=1_000_000)
    """How many of the newest ids are kept."""


def _from_kind(value: Any) -> Any:
    """`user = "categorical"` is short for `user = {kind = "categorical"}`; no kind means categorical."""
    if isinstance(value, str):
        return {"kind": value}
    if isinstance(value, dict) and "kind" not in value:
        return {"kind": "categorical", **value}
    return value


AnyFeature = Annotated[
    Annotated[Categorical | Numeric | MultiValued | Sequence, Field(discriminator="kind")], BeforeValidator(_from_kind)
]
