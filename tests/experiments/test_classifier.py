"""FunnelClassifier: scikit-learn's own checks, the same bits as the command line, and what users do with estimators."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from pandas.testing import assert_frame_equal
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks
from typer.testing import CliRunner

import funnelcast
from funnelcast import FunnelClassifier
from funnelcast.cli.main import app
from funnelcast.errors import EstimatorError
from funnelcast.training.callback import Callback, EpochEnd
from tests import tiny

NETWORK = {"name": "shared_bottom", "expert": [16], "tower": [8], "tower_dropout": [], "start": "rates"}
SMALL = {
    "name": "small",
    "workers": 1,
    "model": NETWORK | {"activation": "leaky_relu"},
    "optimizer": {"batch_size": 16, "learning_rate": 0.05},
    "stages": [{"epochs": 6, "patience": 15, "metric": "log_loss"}],
}
CHAIN = "its labels are independent, and by default each column of y comes after the one before"
MULTILABEL = (
    "check_classifiers_multilabel_representation_invariance",
    "check_classifiers_multilabel_output_format_predict",
    "check_classifiers_multilabel_output_format_predict_proba",
    "check_classifiers_multilabel_output_format_decision_function",
)
EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": (
        "a row twice is in two places of an epoch's order, a row with weight 2 in one, so steps see other batches"
    ),
    "check_classifier_multioutput": CHAIN,
    **dict.fromkeys(MULTILABEL, CHAIN),
}
"""The checks that fail, and why; docs/how-to/scikit-learn.md has them."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
@parametrize_with_checks(  # type: ignore[untyped-decorator]
    [FunnelClassifier(SMALL)], expected_failed_checks=lambda estimator: EXPECTED, xfail_strict=True
)
def test_the_checks_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("check", "funnel"),
    [("check_classifier_multioutput", "a; b; c"), *((name, "a; b; c; d; e") for name in MULTILABEL)],
)
def test_checks_of_independent_labels_pass_with_a_funnel_of_such(check: str, funnel: str) -> None:
    getattr(estimator_checks, check)("FunnelClassifier", FunnelClassifier(SMALL, funnel, validation_fraction=0))


def test_the_guide_names_the_checks_that_fail() -> None:
    guide = Path(__file__).parents[2] / "docs/how-to/scikit-learn.md"
    named = [line.split("`")[1] for line in guide.read_text().splitlines() if line.startswith("| `check_")]
    assert named == list(EXPECTED)


def draw(rows: int, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    log = tiny.draw_log(rows, seed).to_pandas()
    log["tags"] = [[f"t{i % 3}"] * (i % 4) for i in log["item"]]
    log["user"] = log["user"].astype("category")
    log["adult"] = log["age"] > 21
    return log[["user", "item", "price", "tags", "adult"]], log[["click", "conversion"]]


FEATURES = {"item": "categorical"}


@pytest.fixture(scope="module")
def fitted() -> Any:
    X, y = draw(400)
    return FunnelClassifier(SMALL, features=FEATURES, epochs=3).fit(X, y)


@pytest.mark.slow
def test_the_same_bits_as_the_command_line(tmp_path: Path) -> None:
    """With weights and unobserved labels, of the same rows in the same order."""
    X, y = draw(500)
    weight = np.random.default_rng(0).integers(1, 4, 500)
    model = FunnelClassifier(SMALL, features=FEATURES, epochs=4, random_state=3).fit(X, y, weight)
    depth = y.sum(axis=1)
    train, dev = train_test_split(np.arange(500), test_size=0.1, random_state=3, stratify=depth)
    log = X.assign(adult=X["adult"].astype("float32"), click=y["click"], conversion=y["conversion"], weight=weight)
    for part, rows in (("train", np.sort(train)), ("dev", np.sort(dev))):
        log.iloc[rows].to_parquet(tmp_path / f"{part}.parquet")
    kinds = {"user": "categorical", "item": "categorical", "price": "numeric", "tags": "multi", "adult": "numeric"}
    features = "\n".join(f'{name} = "{kind}"' for name, kind in kinds.items())
    funnel = 'funnel = {steps = "click; conversion after click", on_broken = "error"}\nweight = "weight"'
    (tmp_path / "schema.toml").write_text(f"{funnel}\nsplit = {{dev = 0.0, test = 0.0}}\n[features]\n{features}")
    stages = [{"epochs": 4, "patience": 15, "metric": "log_loss"}]
    experiment = funnelcast.Experiment.from_dict(SMALL | {"seed": 3, "stages": stages})
    funnelcast.prepare(
        tmp_path / "schema.toml", tmp_path / "table", train=tmp_path / "train.parquet", dev=tmp_path / "dev.parquet"
    )
    run = funnelcast.train(experiment, tmp_path / "table", tmp_path / "run", baselines=False)
    new = draw(100, seed=9)[0].assign(adult=True)
    assert model.predictor_.bundle.fingerprint == run.bundle.fingerprint
    assert_frame_equal(
        model.predict_funnel(new), funnelcast.load(tmp_path / "run/bundle").predict(new.assign(adult=1.0))
    )
    assert model.predictor_.bundle.metrics == run.results


def test_probabilities_by_step_and_by_name(fitted: Any) -> None:
    X, y = draw(50, seed=1)
    X.index = range(100, 150)
    named, by_step = fitted.predict_funnel(X), fitted.predict_proba(X)
    assert list(named) == ["p_click", "p_conversion", "p_conversion_given_click"] and list(named.index) == list(X.index)
    assert [own.shape for own in by_step] == [(50, 2), (50, 2)]
    for own, name in zip(by_step, ("p_click", "p_conversion"), strict=True):
        assert_array_equal(own[:, 1], named[name])
        assert_array_equal(own.sum(1), 1)
    assert_array_equal(fitted.predict(X), np.stack([own[:, 1] > 0.5 for own in by_step], 1))
    assert [own.tolist() for own in fitted.classes_] == [[0, 1], [0, 1]]
    assert fitted.n_features_in_ == 5 and list(fitted.feature_names_in_) == list(X)
    known = [y[name].notna().to_numpy() for name in y]
    expected = [log_loss(y[n][k], p[k], labels=[0, 1]) for n, p, k in zip(y, by_step, known, strict=True)]
    assert fitted.score(X, y) == pytest.approx(-np.mean(expected))
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(X[list(X)[::-1]])


def test_one_step_of_any_two_classes(tmp_path: Path) -> None:
    X, y = draw(300)
    bought = y["click"].fillna(0).map({0: "no", 1: "yes"}).rename("bought")
    model = FunnelClassifier(SMALL, features=FEATURES, epochs=2, validation_fraction=0).fit(X, bought)
    p = np.asarray(model.predict_proba(X))
    assert (
        p.shape == (300, 2) and list(model.classes_) == ["no", "yes"] and list(model.predict_funnel(X)) == ["p_bought"]
    )
    assert set(model.predict(X)) <= {"no", "yes"} and model.score(X, bought) == pytest.approx(-log_loss(bought, p))
    model.save(tmp_path / "saved")
    loaded = FunnelClassifier.load(tmp_path / "saved")
    assert_array_equal(loaded.predict_proba(X), p)
    assert_array_equal(loaded.predict(X), model.predict(X))
    assert loaded.score(X, bought) == model.score(X, bought)


def test_saving_and_loading(fitted: Any, tmp_path: Path) -> None:
    X, _ = draw(50, seed=1)
    fitted.save(tmp_path / "saved")
    loaded = FunnelClassifier.load(tmp_path / "saved")
    assert_frame_equal(loaded.predict_funnel(X), fitted.predict_funnel(X))
    assert loaded.get_params()["features"] == FEATURES and list(loaded.feature_names_in_) == list(X)
    plain = funnelcast.load(tmp_path / "saved").predict(X.assign(adult=X["adult"].astype(float)))
    assert_frame_equal(plain, fitted.predict_funnel(X))
    second = loaded.fit(*draw(400))
    assert second.predictor_.bundle.fingerprint == fitted.predictor_.bundle.fingerprint
    with pytest.raises(funnelcast.FunnelcastError, match="saved exists"):
        fitted.save(tmp_path / "saved")
    fitted.predictor_.bundle.save(tmp_path / "bundle")
    assert_frame_equal(FunnelClassifier.load(tmp_path / "bundle").predict_funnel(X), fitted.predict_funnel(X))


@pytest.mark.slow
def test_searches_in_other_processes_scorers_pipelines_and_calibration(tmp_path: Path) -> None:
    X, y = draw(300)
    y = y.fillna(0).assign(conversion=(y == 1).all(axis=1) * 1.0)
    model = FunnelClassifier(SMALL, features=FEATURES, epochs=2, callbacks=[funnelcast.TensorBoard(tmp_path)])
    search = GridSearchCV(model, {"epochs": [1, 2]}, cv=2, n_jobs=2, scoring="roc_auc").fit(X, y)
    assert len(list(tmp_path.iterdir())) == 5 and len(search.cv_results_["mean_test_score"]) == 2
    assert_frame_equal(
        clone(search.best_estimator_).fit(X, y).predict_funnel(X), search.best_estimator_.predict_funnel(X)
    )
    assert np.isfinite(cross_val_score(model, X, y, cv=2)).all()
    numbers = X[["item", "price"]]
    steps = make_column_transformer((make_pipeline(SimpleImputer(), StandardScaler()), ["item", "price"]))
    piped = make_pipeline(steps, FunnelClassifier(SMALL, epochs=2)).fit(numbers, y)
    assert piped.predict_proba(numbers)[1].shape == (300, 2)
    calibrated = CalibratedClassifierCV(FunnelClassifier(SMALL, epochs=2), cv=2).fit(X, y["click"])
    assert calibrated.predict_proba(X).shape == (300, 2)


@pytest.mark.parametrize("kind", ["boolean", "Int64", "category", "string[pyarrow]"])
def test_labels_of_any_type_and_numbers_of_searches(kind: str) -> None:
    """A label that was computed from a column has its name, which does not make it a feature."""
    X, _ = draw(100)
    y = (X["price"] > 10).fillna(False).astype(kind)
    own: dict[str, Any] = {"epochs": np.int64(1), "workers": np.int64(1), "random_state": np.int64(3)}
    model = FunnelClassifier(SMALL, features=FEATURES, **own).fit(X, y)
    assert set(model.predict(X)) <= set(y) and list(model.predict_funnel(X)) == ["p_label"]
    assert model.predictor_.bundle.experiment["seed"] == 3


def test_steps_may_be_unobserved_flags_or_out_of_order() -> None:
    X, y = draw(200)
    given: dict[str, Any] = {"features": FEATURES, "epochs": 1, "funnel": "click; conversion after click"}
    expected = FunnelClassifier(SMALL, **given).fit(X, y).predict_funnel(X)
    for other in (y.astype("Int64"), y.astype("boolean"), y[["conversion", "click"]], y.to_numpy()):
        assert_frame_equal(FunnelClassifier(SMALL, **given).fit(X, other).predict_funnel(X), expected)


def test_callbacks_follow_the_training() -> None:
    class First(Callback):
        def on_epoch_end(self, event: EpochEnd) -> bool:
            epochs.append(event.epoch)
            return True

    epochs: list[int] = []
    X, y = draw(200)
    FunnelClassifier(SMALL, callbacks=[First()]).fit(X, y)
    assert epochs == [0]


BROKEN = pd.DataFrame({"click": [0, 1] * 50, "conversion": 1})
WRONG: list[tuple[dict[str, Any], Any, str]] = [
    ({}, BROKEN, "50 rows have conversion = 1 and click = 0, and conversion comes after click; .* 'click; conversion'"),
    ({}, BROKEN * 2, "y has 2 for conversion in row 0; give 1 where the step was reached"),
    ({"funnel": "a; b"}, BROKEN, "y has the columns click, conversion, and the funnel needs a, b"),
    ({"funnel": "a; b; c"}, BROKEN.to_numpy(), "y has 2 columns, and the funnel 3 steps, a, b, c"),
    ({}, BROKEN.rename(columns={"click": "a b"}), "'a b' cannot be the name of a step; use letters"),
    ({}, BROKEN.rename(columns={"click": "price"}) * 0, "'price' is a column of X and of the labels; rename one"),
    (
        {"features": {"itme": "categorical"}},
        BROKEN["click"],
        "features has 'itme', which is no column of X: user, item",
    ),
    ({"features": {"item": "catgorical"}}, BROKEN["click"], "features.item.*did you mean 'categorical'"),
    ({"model": "recomended"}, BROKEN["click"], "did you mean 'recommended'"),
    ({"epochs": 0}, BROKEN["click"], "stages.0.epochs: 0 is not allowed"),
    ({"validation_fraction": 1}, BROKEN["click"], "validation_fraction = 1 is no share; give one from 0 to below 1"),
    ({}, None, "requires y to be passed"),
    ({"features": {"price": "categorical"}}, BROKEN["click"], "price is no whole number: declare it numeric, or cast"),
    ({}, list("abc") * 33 + ["a"], "binary .* y has 3 classes"),
]


@pytest.mark.parametrize(("parameters", "y", "message"), WRONG, ids=[message[:20] for _, _, message in WRONG])
def test_what_is_wrong_is_a_value_error_with_its_fix(parameters: dict[str, Any], y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        FunnelClassifier(**{"model": SMALL, **parameters}).fit(draw(100)[0], y)
    assert isinstance(raised.value, EstimatorError)


def test_a_column_that_is_no_feature() -> None:
    with pytest.raises(EstimatorError, match="column 'time' holds .*2024.*; give numbers, texts, categories, or lists"):
        FunnelClassifier(SMALL).fit(draw(100)[0].assign(time=pd.Timestamp("2024-01-01")), BROKEN["click"])


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(funnelcast.FunnelcastError, match=r'FunnelClassifier needs .* "funnelcast\[sklearn\]"'):
        _ = funnelcast.FunnelClassifier


@pytest.mark.slow
def test_a_saved_classifier_predicts_by_the_command_line(fitted: Any, tmp_path: Path) -> None:
    X, _ = draw(50, seed=1)
    fitted.save(tmp_path / "saved")
    X.assign(adult=X["adult"].astype(float)).to_parquet(tmp_path / "rows.parquet")
    arguments = [
        "predict",
        str(tmp_path / "saved"),
        str(tmp_path / "rows.parquet"),
        "--out",
        str(tmp_path / "p.parquet"),
    ]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    found = pd.read_parquet(tmp_path / "p.parquet")
    assert_frame_equal(found[list(fitted.predict_funnel(X))], fitted.predict_funnel(X))
    assert json.loads((tmp_path / "saved/classifier.json").read_text())["parameters"]["epochs"] == 3
