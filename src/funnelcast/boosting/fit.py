"""Fitting a booster per step, one after the other: early stopping on the dev rows, finished steps survive a kill.

RUN/log.jsonl            one line per step
RUN/checkpoint/step-0/   a finished step: what was learned, its checksum, and its line of the log
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from funnelcast.boosting.id_rates import fit_id_rates
from funnelcast.boosting.lightgbm import LightGBM
from funnelcast.boosting.model import BoostedModel
from funnelcast.boosting.step_rows import Part, StepRows
from funnelcast.boosting.trees import Constant, StepScore, Trees, load_step, require_lightgbm
from funnelcast.data.batch import Batch
from funnelcast.data.columns import Columns
from funnelcast.data.files import new_folder, sha256, write_atomic
from funnelcast.data.loader import Loader, seed_of
from funnelcast.data.progress import Progress, silent
from funnelcast.errors import DataError, FunnelcastError
from funnelcast.evaluation.auc import auc
from funnelcast.evaluation.metrics import log_loss
from funnelcast.schema.funnel import Funnel
from funnelcast.training.interrupt import Interruption
from funnelcast.training.statistics import folds_of


class Finished(NamedTuple):
    """A step that is fitted, and its line of the log."""

    learned: StepScore
    line: dict[str, Any]


@dataclass(frozen=True)
class Boosting:
    """Fits the boosters of a model in a run folder; a step that is finished there is not fitted again. Without a folder
    nothing is written."""

    recipe: LightGBM
    funnel: Funnel
    folder: Path | None
    seed: int
    keep_negatives: float = 1.0
    workers: int = 1
    progress: Progress = silent

    def run(self, model: BoostedModel, train: Columns, dev: Columns) -> BoostedModel:
        """Fit every step; returns the model.

        Raises DataError when a step's metric is undefined on the dev rows, FunnelcastError for a damaged checkpoint,
        KeyboardInterrupt after Ctrl-C.
        """
        parts = self._parts(model, train, dev)
        given = self.recipe.given(self.funnel)
        steps = [(parts[0].of_step(t, given), parts[1].of_step(t, given)) for t in range(len(given))]
        for own, own_dev in steps:
            self._check(own, own_dev)
        finished: list[Finished] = []
        with Interruption() as interruption:
            for own, own_dev in steps:
                finished.append(self._step(own, own_dev, interruption))
                if self.folder is not None:
                    log = "".join(json.dumps(each.line) + "\n" for each in finished)
                    write_atomic(self.folder / "log.jsonl", log.encode())
                if interruption.wanted:
                    raise KeyboardInterrupt
        model.steps = tuple(each.learned for each in finished)
        return model

    def _parts(self, model: BoostedModel, train: Columns, dev: Columns) -> tuple[Part, Part]:
        """Train and dev, with the target statistics of either; those of dev are the model's.

        Folds are drawn at random, also where the split is by key or time. Were all rows of a key in one fold, the rates
        without that fold would tell what became of them, which trees find within an id: see bench/NOTES.md.
        """
        rows, matrix, recipe = Batch.of(train), model.matrix, self.recipe
        used = _weighted(train)
        sampled = Loader.of(train, 1, self.seed, self.keep_negatives).chosen
        if sampled is not None:
            used = np.intersect1d(used, sampled.numpy(), assume_unique=True)
        folds = folds_of(len(train), recipe.folds, self.seed)
        model.statistics, of_others = fit_id_rates(
            matrix.inputs, matrix.by_statistics, rows, used, folds, recipe.given(self.funnel), recipe.smoothing
        )
        own = Part(rows, used, train.weight, matrix, of_others, folds)
        return own, Part(Batch.of(dev), _weighted(dev), self._dev_weight(dev), matrix, model.statistics)

    def _dev_weight(self, dev: Columns) -> NDArray[np.float32] | None:
        """Rows without a first step weigh as much in all as they do among the sampled training rows: the boosters'
        probabilities are of those."""
        if self.keep_negatives == 1:
            return dev.weight
        assert dev.labels is not None
        share = np.where(dev.labels[:, 0] == 0, self.keep_negatives, 1.0).astype(np.float32)
        return share if dev.weight is None else share * dev.weight

    def _check(self, train: StepRows, dev: StepRows) -> None:
        """See that the metric is defined before time is spent. A step that learns a constant needs none."""
        needed = dev.counts if self.recipe.metric == "auc" else (len(dev),)
        if all(train.counts) and not all(needed):
            fix = ", or set model.metric = 'log_loss'" if len(dev) else ""
            raise DataError(
                f"{self.recipe.metric} of {self.funnel.names[dev.step]} is undefined on its {len(dev)} dev rows: they "
                f"lack reached rows or others, of some weight; see that the labels are right, give dev more rows{fix}"
            )

    def _step(self, train: StepRows, dev: StepRows, interruption: Interruption) -> Finished:
        if self.folder is None:
            return self._fit(train, dev, interruption)
        folder = self.folder / "checkpoint" / f"step-{train.step}"
        if folder.exists():
            return _load(folder)
        finished = self._fit(train, dev, interruption)
        with new_folder(folder) as partial:
            described = {"learned": finished.learned.save(partial, "trees.txt"), "line": finished.line}
            described["sha256"] = {path.name: sha256(path) for path in partial.iterdir()}
            (partial / "step.json").write_text(json.dumps(described))
        return finished

    def _fit(self, train: StepRows, dev: StepRows, interruption: Interruption) -> Finished:
        started, name = time.perf_counter(), self.funnel.names[train.step]
        learned: StepScore
        if all(train.counts):
            booster = self._boost(train, dev, interruption)
            rounds, value = booster.current_iteration(), booster.best_score["dev"][self.recipe.metric]
            learned = Trees.of(booster, booster.best_iteration)
            result = {"best_iteration": booster.best_iteration, "dev": {self.recipe.metric: value}}
        else:
            rounds, learned = 1, Constant.of(*train.counts)
            result = {"best_iteration": 0, "dev": {}}
        seconds = time.perf_counter() - started
        speed = {"seconds": round(seconds, 3), "rows_per_s": round(len(train) * rounds / seconds)}
        return Finished(learned, {"step": name, "rows": len(train), **result, **speed})

    def _boost(self, train: StepRows, dev: StepRows, interruption: Interruption) -> Any:
        """A LightGBM Booster."""
        lightgbm, recipe = require_lightgbm(), self.recipe
        parameters = recipe.parameters() | {
            "seed": seed_of(self.seed, "boosting", train.step) % (1 << 31),
            "num_threads": self.workers,
            "deterministic": True,
            "force_row_wise": True,
            "feature_pre_filter": False,
            "verbosity": -1,
        }
        rows = _dataset(train, parameters)
        return lightgbm.train(
            parameters,
            rows,
            recipe.rounds,
            valid_sets=[_dataset(dev, parameters, rows)],
            valid_names=["dev"],
            feval=_metric(recipe.metric, dev),
            callbacks=[lightgbm.early_stopping(recipe.patience, verbose=False), self._report(train.step, interruption)],
            keep_training_booster=True,  # with the trees after the best
        )

    def _report(self, step: int, interruption: Interruption) -> Callable[[Any], None]:
        """What LightGBM calls after every tree."""
        stage, rounds = f"step {self.funnel.names[step]}", self.recipe.rounds

        def report(environment: Any) -> None:
            ((_, metric, value, _),) = environment.evaluation_result_list
            self.progress(stage, environment.iteration + 1, rounds, "trees", f"dev {metric} {value:.4f}")
            if interruption.wanted:
                raise KeyboardInterrupt

        return report


def _weighted(columns: Columns) -> NDArray[np.int64]:
    """Rows (n,) of a weight above 0."""
    return np.arange(len(columns)) if columns.weight is None else np.flatnonzero(columns.weight)


def _dataset(rows: StepRows, parameters: dict[str, Any], reference: Any = None) -> Any:
    """A LightGBM Dataset, binned like `reference`."""
    lightgbm = require_lightgbm()
    lightgbm.Sequence.register(StepRows)
    columns = rows.part.matrix.categorical
    dataset = lightgbm.Dataset(
        rows, rows.labels, reference, rows.weight, params=parameters, categorical_feature=columns
    )
    known = dataset.params
    dataset.get_params = lambda: known  # of rows that come in chunks it would forget the threads and the verbosity
    return dataset


def _metric(name: str, dev: StepRows) -> Callable[[NDArray[np.float64], Any], tuple[str, float, bool]]:
    """The package's own metric, which the number of threads does not change, in the form that LightGBM wants."""

    def measure(p: NDArray[np.float64], _: Any) -> tuple[str, float, bool]:
        if name == "auc":
            return name, auc(dev.labels, p, dev.weight), True
        p = np.clip(p, 1e-15, 1 - 1e-15)
        return name, log_loss(dev.labels, np.log(p), np.log1p(-p), dev.weight), False

    return measure


def _load(folder: Path) -> Finished:
    """A step that an earlier run has finished. Raises FunnelcastError for a damaged one."""
    try:
        described = json.loads((folder / "step.json").read_text())
        if any(sha256(folder / name) != expected for name, expected in described["sha256"].items()):
            raise ValueError("a file differs from its checksum")
        return Finished(load_step(folder, described["learned"]), described["line"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FunnelcastError(
            f"the checkpoint {folder.parent} is damaged ({error}); delete it to train from the start"
        ) from None
