"""The built-in Ali-CCP schema, and which other schemas its byte path can serve."""

from __future__ import annotations

import tomllib
from importlib import resources

from funnelcast.data.datasets.aliccp.fields import LONGEST_FIELD
from funnelcast.data.datasets.aliccp.join import LABELS
from funnelcast.errors import ConfigError, Fault
from funnelcast.schema.dataset import Schema
from funnelcast.schema.features import AnyFeature, Categorical


def aliccp_schema() -> Schema:
    """AITM's protocol, `aliccp-aitm`."""
    text = resources.files("funnelcast.data.datasets.aliccp").joinpath("schema.toml").read_text(encoding="utf-8")
    return Schema.from_dict(tomllib.loads(text), source="aliccp.toml")


def categorical_features(schema: Schema, *, test_given: bool) -> dict[str, Categorical]:
    """The features by the field they read. Raises ConfigError with every rule that the schema breaks."""
    faults = [_fault(name, feature, schema) for name, feature in schema.features.items()]
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
    if found := [fault for fault in faults if fault]:
        raise ConfigError(found, f"schema {schema.name!r}")
    return {schema.column(name): f for name, f in schema.features.items() if f.kind == "categorical"}


def _fault(name: str, feature: AnyFeature, schema: Schema) -> Fault | None:
    field = schema.column(name)
    if feature.kind != "categorical":
        return Fault(f"features.{name}", f"kind {feature.kind!r} is not read from Ali-CCP", "write 'categorical'")
    if not 0 < len(field.encode()) <= LONGEST_FIELD:
        return Fault(f"features.{name}", f"{field!r} is no field of Ali-CCP", "its fields are numbers such as 101")
    if [schema.column(other) for other in schema.features].count(field) > 1:
        return Fault(f"features.{name}", f"field {field!r} is read by several features", "keep one of them")
    return None
