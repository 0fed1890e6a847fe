"""What runs say together, against plain loops; and the page that is made of it."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funnelcast.benchmarks.markdown import markdown
from funnelcast.benchmarks.model_run import scores_of
from funnelcast.benchmarks.results import results_of
from funnelcast.benchmarks.run_pool import ModelRun
from funnelcast.benchmarks.suite import Suite
from funnelcast.data.table import Table
from funnelcast.errors import ComparisonError
from funnelcast.evaluation.auc import auc
from funnelcast.experiments.published import Published
from tests import tiny
from tests.benchmarks.suites import BOTTOM, MMOE, finished_runs

MODELS = {"bottom": BOTTOM, "MMoE": MMOE}
SUITE = Suite(name="small", seeds=2, models=dict.fromkeys([*MODELS, "absent"], Path("x.toml")), reference="bottom")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return tiny.write_table(tmp_path_factory.mktemp("results") / "table", test=400)


@pytest.fixture(scope="module")
def runs(table: Table, tmp_path_factory: pytest.TempPathFactory) -> list[ModelRun]:
    return finished_runs(tmp_path_factory.mktemp("cells"), table, MODELS)


@pytest.fixture(scope="module")
def results(table: Table, runs: list[ModelRun]) -> dict[str, Any]:
    return results_of(SUITE, runs, table)


def test_figures_are_those_of_the_scores(table: Table, runs: list[ModelRun], results: dict[str, Any]) -> None:
    rows = table.part("test")
    assert rows.labels is not None and rows.weight is not None
    observed, reached = rows.labels[:, 1] != 255, rows.labels[:, 0] == 1
    for model in MODELS:
        found = results["models"][model]["figures"]
        scores = [scores_of(run.folder) for run in runs if run.model == model]
        both, weight = observed & reached, rows.weight
        aucs = [auc(rows.labels[both, 1], np.minimum(s[:, 1] - s[:, 0], 0)[both], weight[both]) for s in scores]
        assert found["conversion_given_click"]["auc"]["values"] == pytest.approx(aucs, abs=1e-6)
        aucs = [auc(rows.labels[observed, 1], s[observed, 1], weight[observed]) for s in scores]
        assert found["conversion"]["auc"]["mean"] == pytest.approx(statistics.mean(aucs))
        assert found["conversion"]["auc"]["std"] == pytest.approx(statistics.stdev(aucs))


def test_gains_are_over_the_reference_and_of_the_means(results: dict[str, Any]) -> None:
    assert results["models"]["bottom"]["gains"] == {} and results["models"]["absent"]["gains"] == {}
    gains = results["models"]["MMoE"]["gains"]
    for output, gain in gains.items():
        own, base = (results["models"][model]["figures"][output]["auc"]["mean"] for model in ("MMoE", "bottom"))
        assert gain["estimate"] == pytest.approx(own - base, abs=1e-7)
        assert gain["low"] < gain["estimate"] < gain["high"]
        assert gain["p_adjusted"] == gain["p"]  # one comparison
        assert gain["seeds"]["estimate"] == pytest.approx(own - base, abs=1e-7)
    assert json.loads(json.dumps(results, allow_nan=False)) == results


def test_the_best_is_compared_with_all_others_and_counts_all_of_them(
    table: Table, runs: list[ModelRun], tmp_path: Path
) -> None:
    models = [*MODELS, "third"]
    more = finished_runs(tmp_path, table, {"third": MMOE.replace("experts = 2", "experts = 3")})
    is_base = []
    for base in models:
        suite = SUITE.model_copy(update={"models": dict.fromkeys(models, Path("x.toml")), "reference": base})
        found = results_of(suite, [*runs, *more], table)
        for output, best in found["best"].items():
            means = {name: found["models"][name]["figures"][output]["auc"]["mean"] for name in models}
            assert best["model"] == max(means, key=lambda name: means[name]) and len(best["others"]) == 2
            is_base.append(best["model"] == base)
            for name, gain in best["others"].items():
                assert gain["estimate"] == pytest.approx(means[name] - means[best["model"]], abs=1e-7)
                if best["model"] == base:
                    assert gain == found["models"][name]["gains"][output]
                else:
                    assert gain["p_adjusted"] == pytest.approx(min(1.0, 2 * gain["p"]))
    assert sum(is_base) == len(is_base) / 3  # each reference was tried with each output


def test_seeds_are_paired_by_their_number(table: Table, runs: list[ModelRun]) -> None:
    """Where one of a model failed, the others keep their pairs."""
    left = [run for run in runs if (run.model, run.seed) != ("MMoE", 0)]
    found = results_of(SUITE, left, table)["models"]
    for output, gain in found["MMoE"]["gains"].items():
        (own,), others = (found[model]["figures"][output]["auc"]["values"] for model in ("MMoE", "bottom"))
        assert gain["seeds"]["estimate"] == pytest.approx(own - others[1])


def test_a_run_of_another_protocol_is_refused(table: Table, runs: list[ModelRun], tmp_path: Path) -> None:
    other = tiny.write_table(tmp_path / "table", seed=7)
    (odd,) = finished_runs(tmp_path, other, {"MMoE": MMOE}, seeds=1)
    with pytest.raises(ComparisonError, match="different protocols"):
        results_of(SUITE, [*runs, replace(odd, seed=9)], table)


def test_nothing_finished_is_no_error(table: Table, runs: list[ModelRun], tmp_path: Path) -> None:
    waiting = [replace(run, folder=tmp_path / str(i)) for i, run in enumerate(runs)]
    found = results_of(SUITE, waiting, table)
    assert found["protocol"] == {} and "No run is finished" in markdown(found, None)


def test_the_page(results: dict[str, Any]) -> None:
    page = markdown(results, None)
    mean = results["models"]["MMoE"]["figures"]["click"]["auc"]["mean"]
    assert f"| MMoE | {mean:.4f} ± ".replace(" 0.", " .") in page
    assert "| absent | – | – | – |" in page and results["protocol"]["fingerprint"] in page
    assert "would be missed more often than one time in five" in page


def test_boosters_have_no_epochs_and_no_rows_per_second(table: Table, tmp_path: Path) -> None:
    runs = finished_runs(tmp_path, table, {"bottom": 'model = {name = "lightgbm", rounds = 3}\n'}, seeds=1)
    found = results_of(SUITE, runs, table)
    cost = found["models"]["bottom"]["cost"]
    assert cost["epochs"]["mean"] is None and cost["rows_per_s"]["mean"] is None
    assert cost["parameters"]["mean"] > 0 and cost["training_seconds"]["mean"] > 0
    assert f"| bottom | 1 | {cost['parameters']['mean']:,.0f} | – | – |" in markdown(found, None)


def test_published_figures_stand_beside_ours_and_are_marked_where_protocols_differ(results: dict[str, Any]) -> None:
    published = Published.of("ali-ccp")
    page = markdown(results, published)
    assert ".6047 ± .0017 † (Luo et al. 2023, Table 1)" in page and "† PLE paper: another protocol" in page
    assert "printed gain 0.0352" in page
    real = results | {"protocol": results["protocol"] | {"name": "aliccp-aitm"}, "test_rows": 43_016_840}
    assert ".6047 ± .0017 (Luo et al. 2023, Table 1)" in markdown(real, published)
