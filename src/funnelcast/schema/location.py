"""Where in a file a validation error stands: pydantic's location without what the user never wrote."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo


def locate(location: Sequence[str | int], root: type[BaseModel]) -> tuple[list[str], list[type[BaseModel]]]:
    """The path as a user writes it, and the models that the last key belongs to.

    pydantic puts the chosen member of a union into its locations (`features.age.numeric.bins`, `workers.int`): a part
    that names neither a field nor a key is left out.
    """
    path: list[str] = []
    annotations: list[Any] = [root]
    owners: list[type[BaseModel]] = [root]
    for part in map(str, location):
        models = list(_models(annotations))
        chosen = [model for model in models if part in _tags(model)]
        members = [member for annotation in annotations for member in _members(annotation)]
        if (len(models) > 1 and chosen) or (not models and len(members) > len(annotations)):
            annotations = list(chosen or members)
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


def _members(annotation: Any) -> Iterator[Any]:
    """The types that a value may have, unions and annotated types opened."""
    if typing.get_origin(annotation) is Annotated:
        yield from _members(typing.get_args(annotation)[0])
    elif typing.get_origin(annotation) in (typing.Union, UnionType):
        for member in typing.get_args(annotation):
            yield from _members(member) if member is not NoneType else ()
    else:
        yield annotation


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


def _tags(model: type[BaseModel]) -> set[str]:
    """The fixed values of a model, by which it is told from others: of its `kind`, or its `name`."""
    values = (typing.get_args(field.annotation) for field in model.model_fields.values() if _is_literal(field))
    return {str(value[0]) for value in values if len(value) == 1}


def _is_literal(field: FieldInfo) -> bool:
    return typing.get_origin(field.annotation) is typing.Literal
