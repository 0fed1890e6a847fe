"""The built-in Ali-CCP schemas, and which other schemas its byte path can serve."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib import resources

from funnelcast.data.datasets.aliccp.fields import LONGEST_FIELD
from funnelcast.data.datasets.aliccp.join import LABELS
from funnelcast.errors import ConfigError, Fault, did_you_mean
from funnelcast.schema.dataset import Schema
from funnelcast.schema.features import AnyFeature

SCHEMAS = {"aliccp-aitm": "schema.toml", "aliccp-full": "schema_full.toml"}
"""The files of the built-in schemas by name."""
_REFUSED = {
    "numeric": "its ids are names, not numbers",
    "sequence": "its lists have no order",
}


def aliccp_schema(name: str = "aliccp-aitm") -> Schema:
    """AITM's protocol, `aliccp-aitm`, or `aliccp-full`: all fields, with every id and value. Raises ConfigError."""
    if name not in SCHEMAS:
        raise ConfigError([Fault(name, "is no built-in schema of Ali-CCP", did_you_mean(name, SCHEMAS))])
    file = SCHEMAS[name]
    text = resources.files("funnelcast.data.datasets.aliccp").joinpath(file).read_text(encoding="utf-8")
    return Schema.from_dict(tomllib.loads(text), source=file)


def check(schema: Schema, *, test_given: bool) -> None:
    """Raises ConfigError with every rule that the schema breaks."""
    faults = [fault for name, feature in schema.features.items() for fault in _faults(name, feature, schema)]
    faults += [
        Fault(f"funnel.labels.{name}", f"{column!r} is no label of Ali-CCP", f"known: {', '.join(LABELS)}")
        for name, column in zip(schema.funnel.names, schema.funnel.label_columns, strict=True)
        if column not in LABELS
    ]
    faults += [
        Fault("keep", f"{name!r} is no column", "known: sample_id") for name in schema.keep if name != "sample_id"
    ]
    if schema.weight is not None:
        faults.append(Fault("weight", f"Ali-CCP has no column {schema.weight!r}", "take it out"))
    if schema.split.by != "random":
        faults.append(Fault("split.by", f"{schema.split.by!r} needs a column that Ali-CCP lacks", "write 'random'"))
    if schema.split.test and not test_given:
        faults.append(Fault("split.test", "Ali-CCP's test rows are a file of their own", "give it, or write test = 0"))
    if faults:
        raise ConfigError(faults, f"schema {schema.name!r}")


def _faults(name: str, feature: AnyFeature, schema: Schema) -> Iterator[Fault]:
    field, where = schema.column(name), f"features.{name}"
    if feature.kind in _REFUSED:
        problem = f"kind {feature.kind!r} is not read from Ali-CCP: {_REFUSED[feature.kind]}"
        yield Fault(where, problem, "write 'categorical' or 'multi'")
    elif not 0 < len(field.encode()) <= LONGEST_FIELD:
        yield Fault(where, f"{field!r} is no field of Ali-CCP", "its fields are numbers such as 101")
    elif [schema.column(other) for other in schema.features].count(field) > 1:
        yield Fault(where, f"field {field!r} is read by several features", "keep one of them")
    if feature.kind == "multi" and feature.weights not in (None, f"{field}_value"):
        problem = f"{feature.weights!r} is no column of Ali-CCP"
        yield Fault(f"{where}.weights", problem, f"write '{field}_value', the values of the field, or leave it out")
