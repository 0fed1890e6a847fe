"""Results on several data sets as Markdown, and how the reference compares with the best other model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from funnelcast.benchmarks.markdown import Row, markdown, table_lines
from funnelcast.experiments.formatting import NONE, interval, p_text, short

GAIN_NOTE = (
    "Models: mean AUC over the seeds. Gain: of {base} over the best of the others on that output, with its 95 % "
    "interval; p: of no gain, corrected over the models (Holm). Which other is the best shows in "
    "these same scores, which is to its advantage."
)


def sets_markdown(results: Mapping[str, Any]) -> str:
    """The page of RUN/results.md."""
    return "\n".join(_lines(results)) + "\n"


def overview(results: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """Head and rows: an AUC of each model by data set and output, and the gain of the reference over the best other."""
    base = results["reference"]
    head: Row = ["set", "output", "positives", *results["models"], "best other", f"gain of {base}", "p"]
    rows: list[Row] = [
        [
            each.source,
            each.output,
            f"{each.positives:,}",
            *(short(each.aucs[name]) for name in results["models"]),
            each.best or NONE,
            interval(each.gain) if each.gain else NONE,
            p_text(each.gain["p_adjusted"]) if each.gain else NONE,
        ]
        for each in standings(results)
    ]
    return head, rows


def left_out(results: Mapping[str, Any]) -> list[str]:
    """A sentence for each data set and model that has no figures."""
    gone = {each["source"] for each in results["left_out"] if not each["model"]}
    waiting = [source for source in results["sources"] if source not in results["sets"] and source not in gone]
    said = [f"{each['model'] or 'all models'} on {each['source']}: {each['why']}" for each in results["left_out"]]
    return [*(f"Left out: {text}" for text in said), *(f"Not run yet: {source}" for source in waiting)]


def _lines(results: Mapping[str, Any]) -> Iterator[str]:
    yield f"# {results['title']}\n"
    yield from table_lines(*overview(results))
    yield f"\n{GAIN_NOTE.format(base=results['reference'])}\n"
    yield from (f"- {text}" for text in left_out(results))
    for own in results["sets"].values():
        yield ""
        yield re.sub("^#", "##", markdown(own, None), flags=re.MULTILINE).rstrip()


class Standing(NamedTuple):
    """How the reference stands on an output of a data set, next to the best of the other models."""

    source: str
    output: str
    rows: int
    positives: int
    aucs: dict[str, float | None]
    """Mean over the seeds, by model."""
    best: str | None
    """The other model with the highest mean AUC."""
    gain: dict[str, Any] | None
    """Of the reference over that one: estimate, low, high, p_adjusted."""


def standings(results: Mapping[str, Any]) -> Iterator[Standing]:
    """By data set and output. Results have the gain of the other model over the reference; this is its negative."""
    base = results["reference"]
    for source, own in results["sets"].items():
        models = own["models"]
        for output, figures in next((m["figures"] for m in models.values() if m["figures"]), {}).items():
            aucs = {name: _auc(models.get(name), output) for name in results["models"]}
            known = {name: auc for name, auc in aucs.items() if auc is not None and name != base}
            best = max(known, key=lambda name: known[name], default=None)
            gain = models[best]["gains"].get(output) if best is not None else None
            yield Standing(
                source, output, figures["rows"], figures["positives"], aucs, best, _negated(gain) if gain else None
            )


def _auc(model: Mapping[str, Any] | None, output: str) -> float | None:
    found = (model or {"figures": {}})["figures"].get(output)
    return None if found is None else found["auc"]["mean"]


def _negated(gain: Mapping[str, Any]) -> dict[str, Any]:
    low, high, estimate = (None if gain[key] is None else -gain[key] for key in ("high", "low", "estimate"))
    return {"estimate": estimate, "low": low, "high": high, "p_adjusted": gain["p_adjusted"]}
