"""Training as an estimator of scikit-learn."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.utils import assert_all_finite, check_consistent_length, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from funnelcast.data.files import new_folder
from funnelcast.errors import EstimatorError, FunnelcastError, QuarantineError
from funnelcast.experiments.experiment import Experiment, experiment_of
from funnelcast.experiments.labelled_rows import Labels, labels_of, log_of, schema_of
from funnelcast.experiments.prepare import prepare
from funnelcast.experiments.presets import DEFAULT
from funnelcast.experiments.run import train
from funnelcast.schema.funnel import Funnel
from funnelcast.serving.bundle import Bundle
from funnelcast.serving.predictor import Predictor
from funnelcast.training.callback import Callback

FILE: Final = "classifier.json"
"""What a saved classifier has beside its bundle."""


class FunnelClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A funnel's model as a classifier of scikit-learn, with a label per step. Needs the extra `sklearn`.

    `fit` does what `funnelcast prepare` and `funnelcast train` do, in a temporary folder. X is a DataFrame, whose
    numbers are numeric, whose texts and categories are categorical and whose lists are lists of ids, or an array of
    numbers. y is a DataFrame with a column of 0 and 1 per step (nothing where it is not observed), an array of shape
    (rows, steps), or for one step of shape (rows,) with two classes of any type.
    """

    def __init__(
        self,
        model: Experiment | Mapping[str, Any] | Path | str = DEFAULT,
        funnel: Funnel | str | None = None,
        *,
        features: Mapping[str, Any] | None = None,
        epochs: int | None = None,
        validation_fraction: float = 0.1,
        random_state: Any = 0,
        workers: int | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        """Keep the parameters; `fit` checks them.

        Args:
            model: A preset's name, an experiment's TOML file, its settings as a dict, or an Experiment.
            funnel: Such as `"click; conversion after click"`; by default each column of y comes after the one before.
            features: What columns of X are, in the words of a schema, where their type does not say it, such as
                `{"user": "categorical", "history": {"kind": "sequence"}}`; columns of an array are `x0`, `x1` ….
            epochs: Instead of the model's own, at most.
            validation_fraction: Share of the rows, drawn by how far they came, that decides when training stops and how
                it is calibrated; with 0 the training rows do.
            random_state: The seed, of that draw too; None for another in each call.
            workers: Threads that train; the model's own setting by default.
            callbacks: Follow the training, and may stop it.
        """
        self.model = model
        self.funnel = funnel
        self.features = features
        self.epochs = epochs
        self.validation_fraction = validation_fraction
        self.random_state = random_state
        self.workers = workers
        self.callbacks = callbacks

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train on rows X (N, F) with labels y, and weights (N,) or 1 each. Raises EstimatorError, a ValueError."""
        frame = self._frame(X, reset=True)
        if y is None:
            raise EstimatorError("FunnelClassifier requires y to be passed, but the target y is None")
        if isinstance(y, pd.Series) and y.name in frame.columns:  # as of y = X["price"] > 10
            y = y.rename("label")
        with _as_value_errors():
            labels = labels_of(_checked(y), self.funnel)
            check_consistent_length(frame, labels.values)
            weight = None if sample_weight is None else _weight(sample_weight, frame, labels)
            bundle = self._trained(frame, labels, weight)
        self.predictor_ = Predictor(bundle)
        self.classes_ = labels.classes[0] if labels.is_single else labels.classes
        return self

    def _trained(self, frame: pd.DataFrame, labels: Labels, weight: NDArray[np.float64] | None) -> Bundle:
        seed = _plain(self.random_state)
        if not isinstance(seed, int):
            seed = int(check_random_state(seed).randint(2**31 - 1))
        experiment = self._experiment(seed)
        log = log_of(frame, labels, weight)
        schema = schema_of(frame, labels, self.features or {}, has_weight=weight is not None)
        rows, dev = _split(labels.depth, self.validation_fraction, seed)
        with TemporaryDirectory(prefix="funnelcast-") as name:
            table, run = Path(name) / "table", Path(name) / Path(name).name  # by which callbacks call the run
            try:
                prepare(schema, table, train=log.take(rows), dev=log.take(dev), max_bad=0.0)
            except QuarantineError as error:  # without the list of them, which the folder is gone with
                raise EstimatorError(str(error).partition(". They are listed")[0]) from None
            return train(experiment, table, run, parts=("dev",), baselines=False, callbacks=self.callbacks).bundle

    def _experiment(self, seed: int) -> Experiment:
        model = self.model
        given = Experiment.from_dict(dict(model), "model") if isinstance(model, Mapping) else experiment_of(model)
        workers = {} if self.workers is None else {"workers": _plain(self.workers)}
        settings = given.model_dump(mode="json") | {"seed": seed} | workers
        if self.epochs is not None:
            settings["stages"] = [stage | {"epochs": _plain(self.epochs)} for stage in settings["stages"]]
        return Experiment.from_dict(settings, "parameters")

    def predict_funnel(self, X: Any) -> pd.DataFrame:
        """Return the probabilities by name, such as p_click, p_conversion and p_conversion_given_click, one row per row
        of X. Raises EstimatorError."""
        check_is_fitted(self)
        with _as_value_errors():
            return self.predictor_.predict(self._frame(X, reset=False))

    def predict_proba(self, X: Any) -> NDArray[np.float64] | list[NDArray[np.float64]]:
        """Return (N, 2) per step, for not reached and reached, in a list; of y with one dimension the array alone.
        Raises EstimatorError."""
        frame = self.predict_funnel(X)
        reached = [frame[f"p_{name}"].to_numpy() for name in self.predictor_.funnel.names]
        found = [np.stack([1 - p, p], axis=1) for p in reached]
        return found if isinstance(self.classes_, list) else found[0]

    def predict(self, X: Any) -> NDArray[Any]:
        """Return (N, T) with 1 where a step is more likely reached than not; of y with one dimension its classes (N,).
        Raises EstimatorError."""
        p = self.predict_proba(X)
        if isinstance(p, list):
            return np.stack([own.argmax(1) for own in p], axis=1)
        return np.asarray(self.classes_[p.argmax(1)])

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return minus the log-loss, the mean over steps; higher is better. Accuracy, which other classifiers return,
        says nothing of rare steps. Raises EstimatorError."""
        p = self.predict_proba(X)
        with _as_value_errors():
            classes = None if isinstance(self.classes_, list) else self.classes_
            labels = labels_of(y, self.predictor_.funnel, classes)
        weight = np.ones(len(labels.values)) if sample_weight is None else np.asarray(sample_weight)
        losses = []
        for values, own in zip(labels.values.T, p if isinstance(p, list) else [p], strict=True):
            known = ~np.isnan(values)
            losses.append(log_loss(values[known], own[known], sample_weight=weight[known], labels=[0, 1]))
        return -float(np.mean(losses))

    def save(self, folder: Path | str, *, replace: bool = False) -> None:
        """Write the bundle, which the command line reads too, with what `load` needs beside it; whole or not there.
        Raises FunnelcastError where the folder exists and `replace` is not set."""
        check_is_fitted(self)
        own = {name: _plain(value) for name, value in self.get_params(deep=False).items()} | {"callbacks": ()}
        funnel, state = self.funnel, own["random_state"]
        own["funnel"] = funnel.model_dump(mode="json") if isinstance(funnel, Funnel) else funnel
        own["model"] = self.predictor_.bundle.experiment
        own["random_state"] = state if isinstance(state, int) else None
        names = getattr(self, "feature_names_in_", None)
        classes = None if isinstance(self.classes_, list) else self.classes_.tolist()
        described = {"parameters": own, "classes": classes, "names": None if names is None else names.tolist()}
        with new_folder(Path(folder), replace=replace) as partial:
            self.predictor_.bundle.save(partial, replace=True)
            (partial / FILE).write_text(json.dumps(described, indent=1))

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read a saved classifier, or the bundle of any run. `model` becomes the settings of its experiment.

        Raises BundleError.
        """
        bundle, path = Bundle.load(folder), Path(folder) / FILE
        schema = bundle.encoder.schema
        columns = [schema.column(name) for name in schema.features]
        described: dict[str, Any] = {"parameters": {"model": bundle.experiment}, "classes": None, "names": columns}
        if path.is_file():
            described = json.loads(path.read_text())
        made = cls(**described["parameters"])
        if isinstance(made.funnel, Mapping):
            made.funnel = Funnel.from_dict(made.funnel)
        made.predictor_, made.n_features_in_ = Predictor(bundle), len(columns)
        if described["names"] is not None:
            made.feature_names_in_ = np.asarray(described["names"], dtype=object)
        classes = described["classes"]
        made.classes_ = [np.array([0, 1])] * len(schema.funnel.names) if classes is None else np.asarray(classes)
        return made

    def _frame(self, X: Any, *, reset: bool) -> pd.DataFrame:
        """X with names of columns that are texts."""
        if hasattr(X, "to_pandas"):
            X = X.to_pandas()
        if not (hasattr(X, "iloc") and hasattr(X, "columns")):
            values = validate_data(self, X, reset=reset, ensure_all_finite="allow-nan")
            return pd.DataFrame(values, columns=[f"x{i}" for i in range(values.shape[1])])
        validate_data(self, X, reset=reset, skip_check_array=True)
        frame = X.set_axis([str(name) for name in X.columns], axis=1)
        if not len(frame) or not len(frame.columns):
            raise EstimatorError(f"X has the shape {frame.shape}; give rows and columns")
        flags = [name for name in frame.columns if pd.api.types.is_bool_dtype(frame[name].dtype)]
        return frame.astype(dict.fromkeys(flags, "float32")) if flags else frame

    def __getstate__(self) -> Any:
        """The bundle as bytes of its files, so that a copy is checked as a bundle is."""
        state = super().__getstate__()
        return state | {"predictor_": _packed(state["predictor_"].bundle)} if "predictor_" in state else state

    def __setstate__(self, state: Any) -> None:
        packed = state.get("predictor_")
        super().__setstate__(state if packed is None else state | {"predictor_": Predictor(_unpacked(packed))})

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.classifier_tags.multi_class = False
        tags.classifier_tags.multi_label = True
        tags.input_tags.allow_nan = True
        return tags


def _plain(value: Any) -> Any:
    """A number of NumPy, as searches draw them, as one of Python."""
    return value.item() if isinstance(value, np.generic) else value


def _checked(y: Any) -> Any:
    """Y, where a single step's is a target of classes without NaN."""
    values = np.asarray(y)
    if values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1):
        values = values.ravel()
        if values.dtype.kind == "f":
            assert_all_finite(values, input_name="y")
        check_classification_targets(values)
    return y


def _weight(given: Any, frame: pd.DataFrame, labels: Labels) -> NDArray[np.float64]:
    weight = np.asarray(_check_sample_weight(given, frame, dtype=np.float64, ensure_non_negative=True))
    if labels.is_single and len(np.unique(labels.values[weight > 0])) < 2:
        raise EstimatorError("the rows with a weight above 0 have one class only; rows of two classes are needed")
    return weight


def _split(depth: NDArray[np.float64], share: float, seed: int) -> tuple[Any, Any]:
    """Training rows and dev rows, each in the order of X."""
    rows = np.arange(len(depth))
    if not 0 <= share < 1:
        raise EstimatorError(f"validation_fraction = {share} is no share; give one from 0 to below 1")
    if share == 0:
        return rows, rows
    counts = np.unique(depth, return_counts=True)[1]
    stratify = depth if counts.min() > 1 and len(counts) <= min(share, 1 - share) * len(rows) else None
    try:
        train, dev = train_test_split(rows, test_size=share, random_state=seed % 2**32, stratify=stratify)
    except ValueError as error:
        raise EstimatorError(f"{error}; give more rows, or validation_fraction = 0") from None
    return np.sort(train), np.sort(dev)


@contextmanager
def _as_value_errors() -> Iterator[None]:
    try:
        yield
    except EstimatorError:
        raise
    except FunnelcastError as error:
        raise EstimatorError(str(error)) from error


def _packed(bundle: Bundle) -> bytes:
    with TemporaryDirectory(prefix="funnelcast-") as name, io.BytesIO() as buffer:
        folder = Path(name) / "bundle"
        bundle.save(folder)
        with zipfile.ZipFile(buffer, "w") as archive:
            for path in sorted(folder.rglob("*")):
                archive.write(path, path.relative_to(folder))
        return buffer.getvalue()


def _unpacked(packed: bytes) -> Bundle:
    with TemporaryDirectory(prefix="funnelcast-") as name:
        archive = Path(name) / "bundle.zip"
        archive.write_bytes(packed)
        shutil.unpack_archive(archive, Path(name) / "bundle")
        return Bundle.load(Path(name) / "bundle")
