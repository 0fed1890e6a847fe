"""Where in a file a validation error stands: pydantic's location without what the user never wrote."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel


def locate(location: Sequence[str | int], root: type[BaseModel]) -> tuple[list[str], list[type[BaseModel]]]:
    """The path as a user writes it, and the models that the last key belongs to.

    pydantic puts the tag of a tagged union into its locations (`features.age.numeric.bins`): a part that names neither
    a field nor a key, but the chosen model, is left out.
    """
    path: list[str] = []
    annotations: list[Any] = [root]
    owners: list[type[BaseModel]] = [root]
    for part in map(str, location):
        models = list(_models(annotations))
        chosen = [model for model in models if _tag(model) == part]
        if len(models) > 1 and chosen:
            annotations = list(chosen)
            continue
        path.append(part)
        owners = models or owners
        annotations = [deeper for annotation in annotations for deeper in _below(annotation, part)]
    return path, owners


def _models(annotations: Sequence[Any]) -> Iterator[type[BaseModel]]:
    """The models that values of these types may be, unions opened, containers not."""
    for annotation in annotations:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation
        elif _is_open(annotation):
            yield from _models(typing.get_args(annotation))


def _below(annotation: Any, part: str) -> Iterator[Any]:
    """The types of what stands at `part` in a value of this type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(part)
        yield from [field.annotation] if field else []
    elif _is_open(annotation):
        for argument in typing.get_args(annotation):
            yield from _below(argument, part)
    elif typing.get_origin(annotation) in (dict, tuple, list):
        yield from typing.get_args(annotation)


def _is_open(annotation: Any) -> bool:
    """Whether this is a union or an annotated type."""
    return bool(typing.get_args(annotation)) and typing.get_origin(annotation) not in (dict, tuple, list)


def _tag(model: type[BaseModel]) -> str | None:
    """The fixed value of a model's `kind`."""
    field = model.model_fields.get("kind")
    return str(field.default) if field else None
