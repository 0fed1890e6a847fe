"""The README next to exported models: inputs, outputs, and a program that runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from funnelcast.exporting.feed import Feed, encoded_feed, missing_value, raw_feed
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.made_rows import made_rows

ROWS = 2
"""Rows of the program's example."""


def readme(
    bundle: Bundle, differences: Mapping[str, float], left_out: Mapping[str, str], metadata: Mapping[str, str]
) -> str:
    """Markdown for whoever loads the models, who may know nothing of this package."""
    schema, rows = bundle.encoder.schema, made_rows(bundle.encoder, ROWS)
    feeds = {"raw.onnx": raw_feed(bundle.encoder, rows)} if "raw.onnx" in differences else {}
    feeds["model.onnx"] = encoded_feed(bundle.encoder.inputs, bundle.encoder.encode(rows))
    first = next(iter(feeds))
    return "\n".join(
        [
            f"# {schema.name}: a funnel's probabilities",
            "",
            f"ONNX models of the bundle `{bundle.fingerprint}`. Its funnel is: {metadata['funnel']}.",
            "They run in ONNX Runtime, in any of its languages. Both accept any number of rows.",
            "",
            *_files(differences, left_out),
            "",
            *_program(first, feeds[first]),
            "",
            *[line for model, feed in feeds.items() for line in _inputs(bundle, model, feed)],
            *_outputs(bundle),
            "## Made with",
            "",
            ", ".join(f"{name} {value}" for name, value in metadata.items() if name not in ("bundle", "funnel")) + ".",
            "The metadata of each model holds the same.",
            "",
        ]
    )


def _files(differences: Mapping[str, float], left_out: Mapping[str, str]) -> list[str]:
    reads = {
        "raw.onnx": "reads raw values; the vocabularies are inside",
        "model.onnx": "reads ids and scaled numbers, as the package's encoder makes them",
    }
    lines = [f"- `{name}` {reads[name]}." for name in reads if name in differences]
    lines += [f"- `{name}` was left out: {reason}." for name, reason in left_out.items()]
    largest = max(differences.values())
    return [
        *lines,
        "- A file `*.data`, where there is one, holds the weights of the model beside it. Keep them together.",
        "",
        f"Their log-probabilities differ from the package's own by {largest:.0e} at most on rows of known, unknown and",
        "missing values.",
    ]


def _program(model: str, feed: Feed) -> list[str]:
    """With two rows."""
    return [
        "## A first prediction",
        "",
        "It needs `python -m pip install onnxruntime`.",
        "",
        "```python",
        "import numpy as np",
        "import onnxruntime",
        "",
        "options = onnxruntime.SessionOptions()",
        'options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads sleep',
        f'session = onnxruntime.InferenceSession("{model}", options, providers=["CPUExecutionProvider"])',
        "rows = {",
        *[f"    {name!r}: {_literal(array)}," for name, array in feed.items()],
        "}",
        "names = [output.name for output in session.get_outputs()]",
        "for name, p in zip(names, session.run(names, rows)):",
        "    print(name, *p)",
        "```",
    ]


def _literal(array: NDArray[Any]) -> str:
    kind = "object" if array.dtype == object else f"np.{array.dtype}"
    return f"np.array({array.tolist()!r}, {kind})".replace("nan", "np.nan")


def _inputs(bundle: Bundle, model: str, feed: Feed) -> list[str]:
    """A table of the inputs of a model."""
    lines = [f"## Inputs of `{model}`", "", "| Name | Type | Shape | Meaning |", "|---|---|---|---|"]
    for name, array in feed.items():
        second = array.shape[-1] if name in ("ids", "numeric") else "elements"
        shape = "rows" if array.ndim == 1 else f"rows × {second}"
        kind = "string" if array.dtype == object else str(array.dtype)
        lines.append(f"| `{name}` | {kind} | {shape} | {_meaning(bundle, model, name)} |")
    return [*lines, ""]


def _meaning(bundle: Bundle, model: str, name: str) -> str:
    encoder, schema = bundle.encoder, bundle.encoder.schema
    if name.endswith(".length") and name not in schema.features:
        return f"how many elements of `{name.removesuffix('.length')}` each row has; the rest is padding"
    if name.endswith(".weights") and name not in schema.features:
        return f"the weight of each element of `{name.removesuffix('.weights')}`"
    if model == "model.onnx":
        if name == "ids":
            return "ids of " + _listed([field for field, _ in encoder.inputs.fields])
        return "scaled numbers of " + _listed(encoder.inputs.numeric) if name == "numeric" else "ids, oldest first"
    feature = schema.features[name]
    if feature.kind == "numeric":
        return "a number; NaN is missing"
    missing = missing_value(encoder.vocabularies[schema.vocabulary(name)])
    what = {"categorical": "a value", "multi": "values", "sequence": "values, oldest first"}[feature.kind]
    return f"{what}; `{missing!r}` is missing; one that training did not hold is unknown"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _outputs(bundle: Bundle) -> list[str]:
    lines = ["## Outputs", "", "Each is float64, with one probability per row.", ""]
    for output in bundle.encoder.schema.funnel.outputs:
        steps = bundle.encoder.schema.funnel.names
        given = "" if output.given is None else f", given `{steps[output.given]}`"
        lines.append(f"- `{output.column}`: of `{steps[output.step]}`{given}")
    return [*lines, ""]
