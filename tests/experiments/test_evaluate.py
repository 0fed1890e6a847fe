"""What evaluate reports, beside what knows nothing and what knows the truth; and that predict agrees with it."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from sklearn.metrics import log_loss, roc_auc_score

from funnelcast.data.columns import UNOBSERVED
from funnelcast.data.files import new_folder
from funnelcast.data.numeric import Standard
from funnelcast.data.table import Table
from funnelcast.data.table_writer import TableWriter
from funnelcast.data.vocabulary import Vocabulary
from funnelcast.errors import ComparisonError, TableError
from funnelcast.evaluation.metrics import expected_calibration_error, observed_over_predicted
from funnelcast.experiments.evaluate import evaluate
from funnelcast.schema.dataset import Schema
from funnelcast.serving.predictor import Predictor
from funnelcast.testing.simulator import Simulator
from tests import tiny
from tests.serving.test_bundle import bundle_of

OUTPUTS = ["click", "conversion", "conversion_given_click"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return tiny.write_table(tmp_path_factory.mktemp("evaluate") / "table", test=5000)


def space(table: Table, output: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[Any]]:
    """Rows (N,) an output is measured over, by its definition; its labels there, and weights."""
    columns = table.part("test")
    assert columns.labels is not None and columns.weight is not None
    click, conversion = columns.labels.T
    step = click if output == "click" else conversion
    rows = (step != UNOBSERVED) & ((click == 1) if output.endswith("given_click") else True)
    return rows, step[rows] == 1, columns.weight[rows]


@pytest.mark.parametrize("keep", [1.0, 0.3])
def test_predicting_the_raw_test_rows_gives_these_very_figures(table: Table, keep: float) -> None:
    """5,000 rows are two chunks, and the raw rows come in one table: bit for bit all the same."""
    bundle = bundle_of(keep_negatives=keep)
    found = evaluate(bundle, table)
    predicted = Predictor(bundle).predict(tiny.draw_log(5000, seed=2))
    for output in OUTPUTS:
        rows, labels, weight = space(table, output)
        p, figures = predicted[f"p_{output}"].to_numpy()[rows], found["outputs"][output]
        assert figures["calibration_error"] == expected_calibration_error(labels, p, weight)
        assert figures["observed_over_predicted"] == observed_over_predicted(labels, p, weight)
        auc = roc_auc_score(labels, p, sample_weight=weight)
        assert figures["auc"]["estimate"] == pytest.approx(auc, rel=1e-12)
        assert figures["log_loss"] == pytest.approx(log_loss(labels, p, sample_weight=weight), rel=1e-6)
        assert (figures["rows"], figures["positives"]) == (len(labels), labels.sum())


def test_the_frame_of_the_result(table: Table) -> None:
    found = evaluate(bundle_of(), table, "dev")
    assert list(found) == ["part", "rows", "protocol", "outputs", "ratio_cut", "constant"]
    assert (found["part"], found["rows"], found["protocol"]) == ("dev", 80, table.protocol)
    assert list(found["outputs"]) == list(found["constant"]) == OUTPUTS
    assert found["ratio_cut"] == {"conversion_given_click": 0}


def test_what_has_collapsed_says_so(table: Table) -> None:
    """Rates of which the network knows nothing, as it is not trained, are better than what it says."""
    untrained = bundle_of()
    found = evaluate(dataclasses.replace(untrained, rates=table.label_rates("test")), table)["outputs"]
    assert "conversion: " in found["conversion"]["warnings"][0] and "worse than the constant rate" in str(found)
    wrong = evaluate(dataclasses.replace(untrained, rates=[0.999, 0.001]), table)["outputs"]
    assert all("log-loss" not in str(metrics["warnings"]) for metrics in wrong.values())


def test_the_constant_predictor_says_the_training_rates(table: Table) -> None:
    bundle = bundle_of()
    constant = evaluate(bundle, table)["constant"]
    for output, rate in zip(OUTPUTS, [*bundle.rates, bundle.rates[1] / bundle.rates[0]], strict=True):
        _, labels, weight = space(table, output)
        share = np.average(labels, weights=weight)
        expected = -share * math.log(rate) - (1 - share) * math.log(1 - rate)
        assert constant[output]["log_loss"] == pytest.approx(expected, rel=1e-6)
        assert constant[output]["auc"]["estimate"] == 0.5


def test_the_truth_of_a_generated_table_is_measured_beside(tmp_path: Path) -> None:
    simulator = Simulator(0)
    table = simulator.write_table(tmp_path / "simulator", train=100, dev=100, test=3000)
    settings: dict[str, Any] = {"model": {"name": "man", "expert": [4], "tower": [4], "tower_dropout": []}}
    bundle = bundle_of(encoder=table.encoder, **settings)
    truth = evaluate(bundle, table)["truth"]
    drawn = simulator.sample(3000, part=2)
    click, conversion = drawn.labels.T == 1
    both = drawn.p_click * drawn.p_conversion_given_click
    for output, labels, p in (
        ("click", click, drawn.p_click),
        ("conversion", conversion, both),
        ("conversion_given_click", conversion[click], drawn.p_conversion_given_click[click]),
    ):
        assert truth[output]["auc"]["estimate"] == pytest.approx(roc_auc_score(labels, p), rel=1e-9)
        assert truth[output]["log_loss"] == pytest.approx(log_loss(labels, p), rel=1e-9)
    assert "truth" not in evaluate(bundle_of(), tiny.write_table(tmp_path / "tiny"))


@pytest.mark.parametrize("by", ["campaign", "user"])
def test_groups_by_a_kept_column_or_a_feature(table: Table, by: str) -> None:
    """A campaign is a user modulo three; users are called as in the log, and unknown ones are no group."""
    bundle, log = bundle_of(), tiny.draw_log(5000, seed=2)
    found = evaluate(bundle, table, by=by)["groups"]
    known = np.ones(5000, bool) if by == "campaign" else table.part("test").ids[:, 0] > 0
    keys = np.where(known, log[by].to_numpy().astype(str), "unknown")
    p = Predictor(bundle).predict(log)
    for output in OUTPUTS:
        rows, labels, weight = space(table, output)
        groups = {entry["group"]: entry for entry in found[output]["by_group"]}
        if by == "user":
            groups["unknown"] = found[output]["unknown"]
        assert set(groups) == {str(key) for key in np.unique(keys[rows])}
        usable = [entry for name, entry in groups.items() if name != "unknown"]
        impressions = [weight[keys[rows] == entry["group"]].sum() for entry in usable]
        assert found[output]["gauc"] == pytest.approx(
            np.average([entry["auc"] for entry in usable], weights=impressions)
        )
        assert found[output]["usable_groups"] == found[output]["groups"] == len(usable)
        for key in np.unique(keys[rows]):
            own = keys[rows] == key
            score = p[f"p_{output}"].to_numpy()[rows][own]
            expected = roc_auc_score(labels[own], score, sample_weight=weight[own])
            assert groups[str(key)]["auc"] == pytest.approx(expected, rel=1e-12)
            assert (groups[str(key)]["rows"], groups[str(key)]["positives"]) == (own.sum(), labels[own].sum())


def test_groups_by_other_features_are_called_by_their_values(table: Table) -> None:
    for by, names in (
        ("item", {str(i) for i in range(20)}),
        ("age", {"[-inf, 30)", "[30, 45)", "[45, 60)", "[60, inf)"}),
    ):
        found = evaluate(bundle_of(), table, by=by)["groups"]["click"]
        assert {entry["group"] for entry in found["by_group"]} == names
        assert (found["unknown"] is None) == (by == "age")


def test_folders_and_predictors_are_measured_too(table: Table, tmp_path: Path) -> None:
    bundle, calls = bundle_of(), []
    bundle.save(tmp_path / "bundle")
    found = evaluate(bundle, table, "dev", progress=lambda *call: calls.append(call))
    assert calls == [("evaluate", 80, 80, "rows")]
    for same in (tmp_path / "bundle", str(tmp_path / "bundle"), Predictor(bundle)):
        assert evaluate(same, str(table.folder), "dev") == found


def test_an_unknown_group_or_part(table: Table) -> None:
    with pytest.raises(TableError, match="no column 'campain' to group by; did you mean 'campaign'?"):
        evaluate(bundle_of(), table, by="campain")
    with pytest.raises(TableError, match="'tets' is no part of a table; did you mean 'test'?"):
        evaluate(bundle_of(), table, "tets")


def test_a_table_with_other_ids_or_scales_is_refused(tmp_path: Path) -> None:
    encoder = tiny.fitted_encoder()
    reordered = encoder.vocabularies | {"user": Vocabulary(pa.array([f"u{i}" for i in reversed(range(12))]))}
    scaled: Any = encoder.numbers | {"price": Standard(mean=0, std=1)}
    others = {
        "gives other ids to 'user'": type(encoder)(encoder.schema, reordered, encoder.numbers),
        "scales its numbers": type(encoder)(encoder.schema, encoder.vocabularies, scaled),
        "gives other ids": tiny.fitted_encoder(users=14),
    }
    for i, (message, other) in enumerate(others.items()):
        table = tiny.write_table(tmp_path / str(i), encoder=other)
        with pytest.raises(ComparisonError, match=message):
            evaluate(bundle_of(), table)


def test_a_bundle_whose_ids_go_on_after_the_tables(tmp_path: Path) -> None:
    """As after a warm start: it knows users that the table does not."""
    table = tiny.write_table(tmp_path / "fewer", encoder=tiny.fitted_encoder(users=6))
    figures = evaluate(bundle_of(), table)["outputs"]
    assert all(math.isfinite(figures[output]["log_loss"]) for output in OUTPUTS)


@pytest.mark.parametrize("change", [{"funnel": "conversion; click"}, {"funnel": "click"}, {"weight": None}])
def test_a_table_of_another_funnel_or_weight_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    """Figures would stand under the names of other steps."""
    schema = Schema.from_dict({**tiny.SCHEMA.model_dump(), **change})
    log, encoder = tiny.draw_log(50), tiny.fitted_encoder(schema=schema)
    columns = encoder.encode(log.combine_chunks().to_batches()[0])
    labels = np.zeros((50, len(schema.funnel.names)), np.uint8)
    weight = np.ones(50, np.float32) if schema.weight else None
    with new_folder(tmp_path / "table") as partial, TableWriter(partial) as writer:
        writer.part("test").append(dataclasses.replace(columns, labels=labels, weight=weight), log.select(["campaign"]))
        writer.finish(encoder, {})
    with pytest.raises(ComparisonError, match=f"has another {next(iter(change))} than the bundle"):
        evaluate(bundle_of(), Table.open(tmp_path / "table"))
