"""The diagnosis of a trained model as figures and tables; what is not in it is left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from funnelcast.errors import FunnelcastError
from funnelcast.reports.drawing.diagnosis_charts import paint_buckets, paint_calibration, paint_scores
from funnelcast.reports.drawing.row_charts import Dot, paint_bars, paint_dots
from funnelcast.reports.drawing.style import height_of
from funnelcast.reports.drawing.svg import Picture, in_a_row, picture
from funnelcast.reports.training_curves import training_curves

Diagnosis = Mapping[str, Any]

SINGLE = ("attention", "conflict", "time")
"""Kinds of one figure, which share a row."""


def diagnosis_figures(diagnosis: Diagnosis, stem: str, name: str) -> list[Picture]:
    """Every figure there is of a model's diagnosis; `stem` begins their names. Raises FunnelcastError for one of
    another structure."""
    kinds: dict[str, Callable[[Any, str], Iterable[Picture]]] = {
        "epochs": training_curves,
        "calibration": _calibration,
        "scores": _scores,
        "frequency": _frequency,
        "gates": _gates,
        "attention": _attention,
        "conflict": _conflict,
        "time": _time,
    }
    found: dict[str, list[Picture]] = {}
    for key, draw in kinds.items():
        if diagnosis.get(key):
            try:
                found.setdefault("one" if key in SINGLE else key, []).extend(draw(diagnosis[key], stem))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise FunnelcastError(
                    f"the diagnosis of {name} has another structure than a report reads, at {key!r} "
                    f"({type(error).__name__}: {error}); make it anew"
                ) from error
    return [picture for kind in found.values() for picture in in_a_row(kind)]


def _calibration(found: Diagnosis, stem: str) -> Iterator[Picture]:
    caption = (
        "Each mark: rows of about one prediction; bar: 95 % interval of the observed rate of all rows. On the dashed "
        "line probabilities are right; above it predictions are too low, below it too high. A triangle at the edge: "
        "none observed."
    )
    for output, groups in found.items():
        groups = [group for group in groups if group["bins"]]
        if groups:
            paint = partial(paint_calibration, groups=groups)
            yield picture(f"{stem}calibration-{output}", f"Calibration of {output}", caption, paint, 3.0)
            caption = ""


def _scores(found: Diagnosis, stem: str) -> Iterator[Picture]:
    caption = (
        "Share of rows by predicted probability. The further apart the two, the better the ranking; where they lie on "
        "each other the model cannot tell the rows apart."
    )
    for output, scores in found.items():
        counts = {"edges": scores["edges"], "reached": scores["reached"], "missed": scores["not"]}
        paint = partial(paint_scores, **counts)
        yield picture(f"{stem}scores-{output}", f"Predictions of {output}", caption, paint, 2.3)
        caption = ""


def _frequency(found: Diagnosis, stem: str) -> Iterator[Picture]:
    caption = (
        f"AUC within rows whose {found['field']} was never seen in training (new), seldom (tail), or often (head), "
        "with 95 % intervals. A model that lives on ids is good at the head and near .5, the dashed line, at the tail."
    )
    known = {o: own for o, own in found["outputs"].items() if any(bucket.get("low") is not None for bucket in own)}
    for output, buckets in known.items():
        title = f"AUC of {output} by frequency of {found['field']}"
        yield picture(f"{stem}frequency-{output}", title, caption, partial(paint_buckets, buckets=buckets), 2.5)
        caption = ""


def _gates(found: Diagnosis, stem: str) -> Iterator[Picture]:
    for step, gate in found.items():
        experts = gate["experts"]
        shares = [expert["share"] for expert in experts]
        caption = (
            f"Mean weight of each expert; dashed: equal shares. Entropy {gate['entropy']:.2f} of at most "
            f"{gate['most']:.2f} nats: a row uses as many as {math.exp(gate['entropy']):.1f} of {len(experts)}. "
            "Near the most, the gate does not choose; a bar near 0 is an idle expert."
        )
        texts = [f"{100 * share:.0f} %" for share in shares]
        names = [expert["name"] for expert in experts]
        paint = partial(paint_bars, names=names, values=shares, texts=texts, label="mean weight", even=True)
        yield picture(f"{stem}gate-{step}", f"Experts of {step}", caption, paint, height_of(len(names)))


def _attention(found: Sequence[Diagnosis], stem: str) -> Iterator[Picture]:
    dots = []
    for pair in found:
        low, inner_low, middle, inner_high, high = pair["quantiles"]
        name = f"{pair['parent']} → {pair['child']}"
        dots.append(Dot(name, middle, low, high, is_filled=True, inner=(inner_low, inner_high)))
    caption = (
        "Weight that a step gives to what the step before passes on, the rest to its own. Dot: median row; bars: half "
        "and nine tenths of the rows. At 0 the link is unused; without spread it is the same for every row."
    )
    paint = partial(paint_dots, dots=dots, label="weight of the step before")
    yield picture(f"{stem}attention", "Attention along the funnel", caption, paint, height_of(len(dots)))


def _conflict(found: Sequence[Diagnosis], stem: str) -> Iterator[Picture]:
    pairs = {(each["a"], each["b"]) for each in found}
    several = len(pairs) > 1
    dots = []
    for each in found:
        low, high = (math.nan if each.get(key) is None else each[key] for key in ("low", "high"))
        name = f"{each['group']}: {each['a']}, {each['b']}" if several else each["group"]
        is_filled = low > 0 or high < 0
        dots.append(Dot(name, math.nan if each["cosine"] is None else each["cosine"], low, high, is_filled=is_filled))
    batches = found[0].get("batches")
    between = "of two steps" if several else f"of {found[0]['a']} and {found[0]['b']}"
    caption = (
        f"Cosine of the gradients {between} in the parameters that they share"
        + (f", over {batches:,} batches" if batches else "")
        + "; bar: 95 % interval; filled: not 0 at 5 %. Below 0 what helps one step harms the other; near 0 they do "
        "not meet."
    )
    paint = partial(paint_dots, dots=dots, label="cosine of gradients", zero=0.0, signs=True)
    yield picture(f"{stem}conflict", "Gradients of the steps", caption, paint, height_of(len(dots)))


def _time(found: Sequence[Diagnosis], stem: str) -> Iterator[Picture]:
    total = sum(part["seconds"] for part in found)
    texts = [f"{1000 * part['seconds']:,.1f} ms, {100 * part['share']:.0f} %" for part in found]
    names, values = [part["part"] for part in found], [1000 * part["seconds"] for part in found]
    caption = f"One training step, {1000 * total:,.1f} ms in all: the longest bar is what is worth making faster."
    paint = partial(paint_bars, names=names, values=values, texts=texts, label="ms a step")
    yield picture(f"{stem}time", "Time of a training step", caption, paint, height_of(len(names)))
