"""Exporting a bundle: a folder with ONNX models that were checked, and a README for whoever loads them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch

from funnelcast.data.files import new_folder
from funnelcast.errors import FunnelcastError
from funnelcast.exporting.check import check_model
from funnelcast.exporting.feed import Feed, encoded_feed, raw_feed
from funnelcast.exporting.graph import Graph
from funnelcast.exporting.lowering import translations
from funnelcast.exporting.raw import (
    LARGEST_VOCABULARIES,
    id_inputs,
    looked_up,
    put_vocabularies,
    raw_rows,
    vocabulary_bytes,
)
from funnelcast.exporting.readme import readme
from funnelcast.exporting.rows import encoded_rows
from funnelcast.runtime.extras import require_extra
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.made_rows import made_rows
from funnelcast.serving.predictor import Predictor, bundle_of

OPSET: Final = 18
"""Of ONNX's own operators."""
LIBRARIES: Final = ("onnx", "onnxscript", "onnxruntime")
LARGEST_FILE: Final = 2_000_000_000
"""Bytes of weights that one file may hold; protobuf ends at 2 GiB."""


def export(bundle: Bundle | Predictor | Path | str, folder: Path | str, *, replace: bool = False) -> dict[str, Any]:
    """Write a bundle as ONNX models for ONNX Runtime: `raw.onnx`, which reads raw values, `model.onnx`, which reads
    encoded rows, and a README with the inputs and outputs of both.

    Every model is compared with `predict` in ONNX Runtime before the folder is there. Returns the files, by model the
    largest difference of log-probabilities, and why one was left out. Raises FunnelcastError where the extra `onnx` is
    missing, `folder` exists, a bundle cannot be exported or a model says otherwise than `predict`.
    """
    for library in LIBRARIES:
        require_extra(library, "onnx", "exporting to ONNX")
    own = bundle_of(bundle)
    _require_names(own)
    with new_folder(Path(folder), replace=replace) as partial:
        differences = {"model.onnx": _write_encoded(own, partial / "model.onnx")}
        left_out: dict[str, str] = {}
        if reason := _too_large(own):
            left_out["raw.onnx"] = reason
        else:
            differences["raw.onnx"] = _write_raw(own, partial / "raw.onnx")
        (partial / "README.md").write_text(readme(own, differences, left_out, described(own)), encoding="utf-8")
        files = sorted(path.name for path in partial.iterdir())
    made = {"folder": str(folder), "files": files, "opset": OPSET}
    return {**made, "differences": differences, "left_out": left_out}


def _require_names(bundle: Bundle) -> None:
    """Inputs and outputs of a graph have a name each, and no two the same."""
    features, outputs = set(bundle.encoder.schema.features), {o.column for o in bundle.encoder.schema.funnel.outputs}
    parts = {name + suffix for name in features for suffix in (".length", ".weights", ".ids")}
    taken = features & (outputs | parts | {"ids", "numeric"})
    if taken:
        raise FunnelcastError(
            f"the feature {min(taken)!r} has the name of another input or output of an ONNX model; rename it in the "
            "schema, with `column` for the name in the log, and train again"
        )


def _too_large(bundle: Bundle) -> str:
    size = vocabulary_bytes(bundle.encoder)
    if size <= LARGEST_VOCABULARIES:
        return ""
    return (
        f"its vocabularies take {size:,} bytes, and {LARGEST_VOCABULARIES:,} fit into a file; use model.onnx, whose "
        "ids are looked up outside, or train with a larger min_count"
    )


def _write_encoded(bundle: Bundle, path: Path) -> float:
    inputs = bundle.encoder.inputs
    graph = Graph(bundle, lambda tensors: encoded_rows(inputs, tensors))
    sample = encoded_feed(inputs, bundle.encoder.encode(made_rows(bundle.encoder, 8)), shortest=2)
    save(traced(graph, sample), path, described(bundle))
    return check_model(bundle, path, lambda rows: encoded_feed(inputs, bundle.encoder.encode(rows)))


def _write_raw(bundle: Bundle, path: Path) -> float:
    encoder = bundle.encoder
    sample = looked_up(encoder, raw_feed(encoder, made_rows(encoder, 8), shortest=2))
    program = traced(Graph(bundle, raw_rows(encoder)), sample)
    put_vocabularies(program.model, id_inputs(encoder))
    save(program, path, described(bundle))
    return check_model(bundle, path, lambda rows: raw_feed(encoder, rows))


def described(bundle: Bundle) -> dict[str, str]:
    """Metadata of a model: what made it, of what."""
    funnel = bundle.encoder.schema.funnel
    steps = "; ".join(step.name + (f" after {step.after}" if step.after else "") for step in funnel.steps)
    versions = {name: version(name) for name in ("funnelcast", "torch", *LIBRARIES)}
    return {"bundle": bundle.fingerprint, "funnel": steps, "opset": str(OPSET), **versions}


def traced(graph: Graph, sample: Feed) -> Any:
    """A graph that takes any number of rows, as an ONNXProgram of torch."""
    tensors = {name: torch.tensor(array) for name, array in sample.items()}
    with torch.no_grad(), _quiet():
        graph.eval()(tensors)  # constants are made here, and not while the graph is traced
        return torch.onnx.export(
            graph,
            kwargs={"inputs": tensors},
            dynamic_shapes={"inputs": _dynamic(sample)},
            input_names=list(sample),
            output_names=[output.column for output in graph.funnel.outputs],
            custom_translation_table=translations(),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )


def save(program: Any, path: Path, metadata: Mapping[str, str]) -> None:
    """Write an ONNXProgram; weights next to it where one file cannot hold them."""
    for node in program.model.graph:
        node.metadata_props.clear()  # the exporter's notes, with paths of this machine
    program.model.metadata_props.update(metadata)
    size = sum(value.const_value.nbytes for value in program.model.graph.initializers.values())
    program.save(path, external_data=size > LARGEST_FILE)


def _dynamic(sample: Feed) -> dict[str, dict[int, Any]]:
    """The sizes that are free: rows, and the elements of each list."""
    rows = torch.export.Dim("rows")
    shapes: dict[str, dict[int, Any]] = {name: {0: rows} for name in sample}
    for i, name in enumerate(name for name in sample if f"{name}.length" in sample):
        elements = torch.export.Dim(f"elements_{i}")
        for own in {name, f"{name}.weights"} & sample.keys():
            shapes[own][1] = elements
    return shapes


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
