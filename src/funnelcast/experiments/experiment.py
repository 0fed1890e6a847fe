"""An experiment: one TOML file under 25 lines that says what is trained on what, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator

from funnelcast.boosting.lightgbm import LightGBM
from funnelcast.calibration.config import CalibrationConfig
from funnelcast.data.encoder import Encoder
from funnelcast.errors import ConfigError, Fault
from funnelcast.experiments.presets import DEFAULT, find, with_base
from funnelcast.models.base import Recipe
from funnelcast.models.man import MAN
from funnelcast.registry import AnyRecipe, wrong_name
from funnelcast.schema.config import Config
from funnelcast.schema.funnel import Funnel
from funnelcast.training.losses import LossConfig
from funnelcast.training.optimizers import OptimizerConfig
from funnelcast.training.stages import Meta, Stage


class Experiment(Config):
    """Everything that decides a trained model, but for the prepared table's content."""

    file_kind: ClassVar[str] = "experiment"

    name: str = Field(default="experiment", pattern=r"^\w[\w.-]*$", max_length=100)
    """Stands in results."""
    data: Path | None = None
    """Folder of the prepared table; `--data` replaces it."""
    seed: int = Field(default=0, ge=0)
    """Decides initial parameters, row order, dropout and sampling; the same seed gives the same model."""
    model: AnyRecipe = MAN()
    """The recipe by `name`, and its settings."""
    loss: LossConfig = LossConfig()
    """Losses per step and their weights."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Adam and the size of a step."""
    stages: tuple[Stage, ...] = Field(default=(Stage(),), min_length=1)
    """One after the other, each from the best state of the one before."""
    stacking: LightGBM | None = None
    """Boosted trees next to a network, as a table `[stacking]` with settings of `lightgbm`: they are fitted to the same
    rows, and a step's log odds are the network's and theirs, averaged by a share that the dev rows decide; 0 where
    trees do not help. None by default."""
    calibration: CalibrationConfig | None = None
    """Maps of the steps' log odds, as a table `[calibration]`, `{}` for its defaults: each is chosen among none, affine
    and isotonic by the log-loss of dev rows that stop no training. None by default."""
    keep_negatives: float = Field(default=1.0, ge=1e-6, le=1)
    """Share of the training rows without a first step that is used; probabilities are corrected for it exactly. Needs a
    funnel with one first step."""
    unknown_ids: float = Field(default=0.0, ge=0, le=1e6)
    """In training, a row's id is read as unknown with probability u / (u + n), where n training rows hold it and u is
    this, so that ids which training never saw read what was trained; 0 for none. Not in lists."""
    workers: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = "auto"
    """Threads that share a batch; `auto` for one per core. It changes the order of sums in
    training, and with `optimizer.at_once` as a number nothing."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU where there is one."""
    checkpoint_seconds: float = Field(default=60.0, ge=0)
    """Time between checkpoints; there is one after every epoch too."""

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str = "") -> Self:
        """Validate `values` with those of their `base`, a preset's name or a path from the file `source`. Raises
        ConfigError with every fault."""
        return super().from_dict(with_base(values, Path(source)), source)

    @field_validator("model", mode="before")
    @classmethod
    def _known_model(cls, value: object) -> object:
        if isinstance(value, str):
            raise ValueError(f'{value!r} is no table; write model = {{name = "{value}"}}')
        if isinstance(value, dict) and (problem := wrong_name(value)):
            raise ValueError(problem)
        return value

    def check(self, encoder: Encoder, source: str = "experiment") -> Self:
        """Raises ConfigError with every fault that shows only beside the funnel and the vocabularies."""
        funnel = encoder.schema.funnel
        faults = self.model.check(encoder.inputs, funnel)
        faults += self._training_faults(funnel) if self.model.differentiable else self._unread()
        if self.stacking is not None:
            faults += self.stacking.check(encoder.inputs, funnel, "stacking")
        if self.calibration is not None:
            faults += self.calibration.check(encoder.inputs)
        if self.keep_negatives < 1 and funnel.parents.count(-1) != 1:
            fix = "set it to 1: with several first steps no exact correction exists"
            faults.append(Fault("keep_negatives", f"{self.keep_negatives} needs a funnel with one first step", fix))
        if faults:
            raise ConfigError(faults, source)
        return self

    def _training_faults(self, funnel: Funnel) -> list[Fault]:
        faults = self.loss.check(funnel) + self._space_faults(funnel)
        names = [stage.name for stage in self.stages]
        for i, stage in enumerate(self.stages):
            if stage.name in names[:i]:
                problem = f"{stage.name!r} is the name of two stages, which the log tells apart by it"
                faults.append(Fault(f"stages.{i}.name", problem, "give each its own"))
            faults += stage.check(funnel, f"stages.{i}")
            faults += self.optimizer.check(stage.learning_rate)
            if stage.meta is not None:
                faults += self._meta_faults(stage.meta, f"stages.{i}.meta")
        return faults

    def _space_faults(self, funnel: Funnel) -> list[Fault]:
        space, correction, faults = self.model.loss_space, self.loss.correction, list[Fault]()
        if correction != "none" and space == "entire":
            problem = f"{correction!r} corrects the loss given the parent, and model.loss_space is 'entire'"
            faults.append(Fault("loss.correction", problem, "set that to 'given_parent' or 'both', or leave it out"))
        elif correction != "none" and max(funnel.parents) < 0:
            problem = f"{correction!r} is for steps after another, and the funnel has none"
            faults.append(Fault("loss.correction", problem, "leave it out"))
        if self.loss.given_parent_weight != 1 and space != "both":
            problem = f"weighs one loss of two, and model.loss_space is {space!r}"
            faults.append(Fault("loss.given_parent_weight", problem, "set loss_space = 'both', or leave it out"))
        return faults

    def _meta_faults(self, meta: Meta, where: str) -> list[Fault]:
        faults, size = [], self.optimizer.batch_size
        if meta.by is not None and self.unknown_ids:
            problem = f"tasks by {meta.by!r} keep their ids, so unknown_ids = {self.unknown_ids} has no effect"
            faults.append(Fault(f"{where}.by", problem, "leave out unknown_ids, or by"))
        if size < 2 * meta.tasks:
            problem = f"{meta.tasks} tasks of at least 2 rows do not fit optimizer.batch_size = {size}"
            faults.append(Fault(f"{where}.tasks", problem, f"set it to {size // 2} or less, or batch_size higher"))
        if meta.adapt_loss_weights and self.loss.weighting == "fixed":
            fix = "leave it out, or set loss.weighting = 'uncertainty'"
            faults.append(Fault(f"{where}.adapt_loss_weights", "the loss weights are fixed", fix))
        return faults

    def _unread(self) -> list[Fault]:
        """Settings that someone has changed, though only training by gradients reads them."""
        name, common = self.model.name, (*Recipe.model_fields, "name")
        own = [field for field in type(self.model).model_fields if field not in common]
        problem = f"is not read by {name}, which is not trained by gradients"
        fix = f"leave it out; under [model], {name} has {', '.join(own)}"
        unread = ("loss", "optimizer", "stages", "stacking", "unknown_ids")
        changed = [n for n in unread if getattr(self, n) != type(self).model_fields[n].default]
        faults = [Fault(setting, problem, fix) for setting in changed]
        if self.device == "cuda":
            faults.append(Fault("device", f"{name} does not run on a GPU", "set 'auto' or 'cpu'"))
        return faults


def experiment_of(experiment: Experiment | Path | str | None) -> Experiment:
    """Itself, that of a file or of a preset's name, or the default one for none. Raises ConfigError."""
    experiment = DEFAULT if experiment is None else experiment
    return experiment if isinstance(experiment, Experiment) else Experiment.from_toml(find(experiment))
