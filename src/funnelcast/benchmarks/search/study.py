"""The trials of one model: chosen, trained, stopped early where others were better, and kept by Optuna."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from funnelcast.benchmarks.search.config import Search
from funnelcast.benchmarks.search.space import Range, Space, grid, grid_size, own_values, with_settings
from funnelcast.benchmarks.suite import slug
from funnelcast.data.loader import seed_of
from funnelcast.data.progress import Progress
from funnelcast.data.table import Table
from funnelcast.errors import FunnelcastError
from funnelcast.experiments.experiment import Experiment
from funnelcast.experiments.run import train
from funnelcast.training.stages import value_of

OnTrial = Callable[[str, int, float | None], None]


class Study:
    """The trials of one model."""

    def __init__(
        self, optuna: Any, storage: Any, config: Search, model: str, experiment: Experiment, space: Space
    ) -> None:
        self.optuna, self.config, self.model, self.experiment, self.space = optuna, config, model, experiment, space
        pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1)
        self.study = optuna.create_study(
            study_name=slug(model), storage=storage, direction="maximize", load_if_exists=True,
            pruner=pruner if config.pruning else optuna.pruners.NopPruner(),
        )  # fmt: skip

    def run(self, table: Table, folder: Path, progress: Progress, on_trial: OnTrial) -> dict[str, Any]:
        """Until there are as many trials as requested."""
        self._take_up()
        shutil.rmtree(folder, ignore_errors=True)  # what a killed trial left
        while (number := len(self._done())) < self._budget():
            self.study.sampler = self._sampler(number)
            trial = self.study.ask()
            value = self._try(trial, table, folder / str(trial.number))
            progress(self.model, number + 1, self._budget(), "trials", "" if value is None else f"{value:.4f}")
            on_trial(self.model, number, value)
        return self._results()

    def _budget(self) -> int:
        return grid_size(self.space) if self.config.method == "grid" else self.config.trials

    def _done(self) -> list[Any]:
        """Trials that came to an end; those that a kill cut short are run again."""
        states, trials = self.optuna.trial.TrialState, self.study.get_trials(deepcopy=False)
        ended = (states.COMPLETE, states.PRUNED)
        return [t for t in trials if t.state in ended or (t.state == states.FAIL and "failed" in t.user_attrs)]

    def _take_up(self) -> None:
        """The trial that was running when the search was killed, and those of the first that are not there yet."""
        states = self.optuna.trial.TrialState
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state == states.RUNNING:
                died = trial.user_attrs.get("died", 0) + ("stopped" not in trial.user_attrs)
                self.study.tell(trial.number, state=states.FAIL)
                self.study.enqueue_trial(trial.params, {"died": died})
        for values in self._first():
            self.study.enqueue_trial(_encoded(values, self.space), skip_if_exists=True)

    def _first(self) -> list[dict[str, Any]]:
        """What is tried before anything is chosen."""
        if self.config.method == "grid":
            return list(grid(self.space))
        own = own_values(self.space, self.experiment)
        return [own] if own is not None else []

    def _sampler(self, number: int) -> Any:
        """With a seed for each trial, so that a search that was killed makes the same choices."""
        seed = seed_of(self.config.seed, self.model, number) % 2**32
        if self.config.method == "tpe":
            return self.optuna.samplers.TPESampler(seed=seed, n_startup_trials=8, multivariate=True)
        return self.optuna.samplers.RandomSampler(seed=seed)

    def _try(self, trial: Any, table: Table, folder: Path) -> float | None:
        """The value; none where it was stopped, or could not be trained."""
        states, settings = self.optuna.trial.TrialState, self._suggest(trial)

        def is_hopeless(step: int, value: float) -> bool:
            trial.report(value, step)
            return bool(trial.should_prune())

        try:
            if trial.user_attrs.get("died", 0) > 1:
                raise FunnelcastError("the search died twice in this trial, as it does where memory runs out")
            experiment = with_settings(self.experiment, settings, self.model)
            value = run_trial(experiment, table, folder, self.config.metric, is_hopeless)
            if math.isnan(value):
                raise FunnelcastError(f"{self.config.metric} is undefined on the dev rows")
        except Pruned:
            self.study.tell(trial, state=states.PRUNED)
            return None
        except KeyboardInterrupt:
            trial.set_user_attr("stopped", True)  # which says nothing against the trial
            raise
        except (FunnelcastError, MemoryError, RuntimeError) as error:
            trial.set_user_attr("failed", str(error) or type(error).__name__)
            self.study.tell(trial, state=states.FAIL)
            return None
        self.study.tell(trial, value)
        return value

    def _suggest(self, trial: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for path, values in self.space.items():
            if not isinstance(values, Range):
                found[path] = json.loads(trial.suggest_categorical(path, [json.dumps(v) for v in values]))
            elif values.is_whole:
                found[path] = trial.suggest_int(path, values.low, values.high, log=values.log)
            else:
                found[path] = float(f"{trial.suggest_float(path, values.low, values.high, log=values.log):.3g}")
        return found

    def _results(self) -> dict[str, Any]:
        trials = [
            {
                "number": trial.number,
                "state": trial.state.name.lower(),
                "value": trial.value,
                "settings": _decoded(trial.params, self.space),
                **({"why": trial.user_attrs["failed"]} if "failed" in trial.user_attrs else {}),
            }
            for trial in self._done()
        ]
        complete = [each for each in trials if each["state"] == "complete"]
        best = max(complete, key=lambda each: each["value"]) if complete else None
        return {"trials": trials, "best": best}


def _encoded(values: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """As Optuna keeps them: choices as JSON texts, which may be lists."""
    return {path: value if isinstance(space[path], Range) else json.dumps(value) for path, value in values.items()}


def _decoded(values: Mapping[str, Any], space: Space) -> dict[str, Any]:
    found = {}
    for path, value in values.items():
        known = space[path]
        if not isinstance(known, Range):
            found[path] = json.loads(value)
        else:
            found[path] = value if known.is_whole else float(f"{value:.3g}")
    return found


class Pruned(Exception):  # noqa: N818  not an error
    """A trial that is not worth going on with."""


def run_trial(
    experiment: Experiment, table: Table, folder: Path, metric: str, is_hopeless: Callable[[int, float], bool]
) -> float:
    """The dev metric, higher is better, of the trained model; the test part stays closed. `is_hopeless` is asked after
    each epoch of a network, with its number and value.

    Raises Pruned, and FunnelcastError where it cannot be trained.
    """
    written = 0

    def progress(stage: str, done: int, total: int, unit: str, note: str = "") -> None:
        nonlocal written
        if done >= total > 0 and experiment.model.differentiable:
            lines = _lines(folder / "log.jsonl")
            for number, line in enumerate(lines[written:], written):
                if "dev" in line and is_hopeless(number, value_of(line["dev"], metric, table.schema.funnel)):
                    raise Pruned
            written = len(lines)

    try:
        run = train(experiment, table, folder, parts=("dev",), baselines=False, progress=progress)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return value_of(run.results["dev"], metric, table.schema.funnel)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
