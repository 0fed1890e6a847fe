"""Sentences say what the numbers bear, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from scipy.stats import t

from funnelcast.reports.conclusion import best_of, conclude, headline
from funnelcast.reports.verdict import judge

REFERENCE = "base"


def model(auc: float | None, gain: float | None, error: float = 0.001, **changes: Any) -> dict[str, Any]:
    """One that is measured; its gain has 20 degrees of freedom."""
    auc_over_seeds = {"mean": auc, "std": 0.001, "values": [auc, auc]}
    one = {"mean": 0.9, "std": 0.0, "values": [0.9, 0.9]}
    figures = {"auc": auc_over_seeds, "normalised_entropy": one, "observed_over_predicted": one}
    found = {
        "seeds": [0, 1, 2],
        "failed": {},
        "figures": {"click": {"rows": 1000, "positives": 100, **figures}},
        "cost": {"seconds": {"mean": 10.0}},
        "gains": {},
    }
    if gain is not None:
        half, p = t.ppf(0.975, 20) * error, 2 * t.sf(abs(gain) / error, 20)
        interval = {"estimate": gain, "low": gain - half, "high": gain + half, "std_error": error}
        found["gains"] = {"click": {**interval, "p": p, "p_adjusted": p, "smallest": 2.8 * error}}
    return found | changes


def results(**models: dict[str, Any]) -> dict[str, Any]:
    every = {REFERENCE: model(0.6, None), **models}
    aucs = {name: each["figures"]["click"]["auc"]["mean"] for name, each in every.items() if each["figures"]}
    known = {name: auc for name, auc in aucs.items() if auc is not None}
    best: dict[str, Any] = {}
    if known:
        top = max(known, key=lambda name: known[name])
        others = {name: {"p_adjusted": below(every[top], every[name])} for name in aucs if name != top}
        best = {"click": {"model": top, "others": others}}
    return {"reference": REFERENCE, "models": every, "best": best, "test_rows": 1000}


def below(a: dict[str, Any], b: dict[str, Any]) -> float | None:
    """p of a - b, by the larger of the errors of their gains; none where one has no AUC."""
    if b["figures"]["click"]["auc"]["mean"] is None:
        return None
    error = max(each["gains"]["click"]["std_error"] for each in (a, b) if each["gains"])
    difference = a["figures"]["click"]["auc"]["mean"] - b["figures"]["click"]["auc"]["mean"]
    return float(2 * t.sf(difference / error, 20))


def said(found: dict[str, Any], output: str = "click") -> str:
    return "\n".join(s for each in conclude(found) if each.output == output for s in each.sentences)


def test_without_intervals_nothing_is_told_apart() -> None:
    found = results(a=model(0.65, 0.05), b=model(0.5, 0.0))
    found["best"]["click"]["others"]["b"]["p_adjusted"] = None
    best = best_of(found, "click")
    assert best is not None and best.p["b"] is None and not best.beats("b") and best.beats("base")
    assert best_of(found, "conversion") is None


def test_who_is_ahead_and_who_is_not() -> None:
    found = results(a=model(0.65, 0.05), b=model(0.6495, 0.0495), c=model(0.6004, 0.0004), d=model(0.55, -0.05))
    text = said(found)
    assert "highest mean AUC is that of a, .6500." in text
    assert "Not significantly different from it: b." in text
    assert "Significantly lower (p < .05, corrected for the number of models): base, c and d." in text
    assert "Ahead of base with p < .05: a (+.0500, p < .001) and b (+.0495, p < .001)." in text
    assert "Behind base with p < .05: d (−.0500, p < .001)." in text
    assert "Neither significantly ahead nor behind: c." in text
    assert "under .0028 would be missed" in text
    assert headline(found) == "a has the highest mean AUC of click; significantly over 3 of 4 others on click."


def test_where_the_reference_is_best_it_is_said_once() -> None:
    text = said(results(a=model(0.5, -0.1), b=model(0.5995, -0.0005)))
    assert "that of base (the reference), .6000" in text and "Not significantly different from it: b." in text
    assert "Significantly lower" in text and "Ahead of" not in text and "Behind" not in text


def test_a_model_whose_seeds_differ_too_much_is_set_apart() -> None:
    wild = model(0.55, -0.05, error=0.05)
    text = said(results(a=model(0.599, -0.001), b=wild))
    assert "Not significantly different from it: a." in text
    assert "repeats differ too much for significance; more would decide: b (± .0010)" in text
    assert "for the least steady model that is .1400" in text
    assert "least steady" not in said(results(a=model(0.599, -0.001, error=1e-6), b=model(0.599, -0.001, error=2e-6)))


def test_no_model_is_ahead_where_p_is_not_small() -> None:
    assert "No model is ahead of base with p < .05." in said(results(a=model(0.601, 0.001)))


def test_the_cheapest_of_the_level_ones_is_named() -> None:
    quick = model(0.6001, 0.0001, cost={"seconds": {"mean": 3.0}})
    assert "quick takes least time: 3 s a run" in said(results(quick=quick))
    assert "least time" not in said(results(quick=quick, far=model(0.7, 0.1)))


@pytest.mark.parametrize(("ratio", "is_off"), [(1.19, False), (1.21, True), (0.79, True), (None, False)])
def test_probabilities_that_are_off_are_told(ratio: float | None, is_off: bool) -> None:
    own = model(0.6, 0.0)
    own["figures"]["click"]["observed_over_predicted"] = {"mean": ratio, "std": 0, "values": [1.0, ratio]}
    assert ("off by more than 20 % in the mean, in one repeat or more: a." in said(results(a=own))) == is_off


def test_what_is_no_better_than_the_rate_is_told() -> None:
    own = model(0.6, 0.0)
    own["figures"]["click"]["normalised_entropy"] = {"mean": 1.0, "std": 0, "values": [1.0]}
    assert "normalised entropy 1 or more): a." in said(results(a=own))
    assert "normalised entropy" not in said(results(a=model(0.6, 0.0)))


def test_limits_are_told() -> None:
    found = results(a=model(0.6, 0.0, seeds=[0]), b=model(0.6, 0.0, seeds=[], figures={}, gains={}, cost={}))
    assert "has but one of the seeds" in said(found, "") and "Not run yet: b." in said(found, "")
    found["models"]["b"]["failed"] = {"0": "why", "1": "why"}
    assert "Runs failed and are in no figure: b (2)." in said(found, "") and "Not run" not in said(found, "")
    found["models"]["a"]["seeds"] = [0, 1]
    assert "With 2 seeds it is little known" in said(found, "")
    assert "With 2 random splits" in said(found | {"splits": 2}, "")
    found["models"][REFERENCE]["figures"]["click"]["positives"] = 49
    assert "click has 49 positives" in said(found, "")
    assert not said(results(a=model(0.6, 0.0)), "")


def test_nothing_is_concluded_from_nothing() -> None:
    empty: dict[str, Any] = {"seeds": [], "failed": {}, "figures": {}, "cost": {}, "gains": {}}
    found = {"reference": "a", "models": {"a": empty}, "test_rows": 10}
    assert said(found, "").startswith("No run is finished") and headline(found) == ""


def metrics(**changes: Any) -> dict[str, Any]:
    auc = {"estimate": 0.7, "low": 0.6, "high": 0.8, "note": ""}
    found = {"rows": 1000, "positives": 100, "auc": auc, "normalised_entropy": 0.9, "observed_over_predicted": 1.0}
    return found | changes


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "AUC .7000 [.6000, .8000] over 1,000 test rows, 100 of them positive."),
        ({"auc": {"estimate": 0.52, "low": 0.49, "high": 0.55}}, "interval holds .5"),
        (
            {"auc": {"estimate": None, "low": None, "high": None, "note": "one class only"}},
            "No AUC on the test rows: one class only.",
        ),
        ({"positives": 49}, "With so few positives"),
        ({"normalised_entropy": 1.1}, "no better than the rate alone"),
        ({"observed_over_predicted": 1.5}, "too low: 1.50 observed for 1 predicted"),
        ({"observed_over_predicted": 0.5}, "too high: .50 observed"),
    ],
)
def test_a_training_run_is_judged(changes: dict[str, Any], sentence: str) -> None:
    (found,) = judge({"dev": {}, "test": {"click": metrics(**changes)}}, [])
    assert sentence in "\n".join(found.sentences)
    assert len(found.sentences) == 1 or changes


def test_the_kept_epoch_is_told() -> None:
    epochs = [{"is_best": True}, {"is_best": True}, {"is_best": False}]
    assert judge({}, epochs)[-1].sentences == ["Parameters are those of epoch 2 of 3, the best on the dev rows."]
    assert "more epochs may bring more" in judge({}, epochs[:2])[-1].sentences[0]
    assert judge({}, []) == []
