"""Where a run stands."""

from __future__ import annotations

from dataclasses import dataclass, field

from funnelcast.training.gradients import MetaMetrics


@dataclass
class Progress:
    """Where a run stands; with the tensors it is all that a resumed run needs."""

    stage: int = 0
    epoch: int = 0  # within the stage
    batch: int = 0  # within the epoch: the next one to train on
    begun: bool = False  # whether the stage's starting state was measured
    best: float | None = None  # of this stage
    best_epoch: int = -1  # -1 for the state it began with
    waited: int = 0  # epochs without a better metric
    loss_sum: list[float] = field(default_factory=list)  # per step, over the rows of this epoch, times their weights
    weight_sum: list[float] = field(default_factory=list)
    meta_sums: dict[str, list[float]] = field(default_factory=dict)  # of the metrics of this epoch's meta steps
    log_bytes: int = 0  # of the log that belong to the past
    done: bool = False
    seconds: float = 0.0  # that this epoch took up to here
    steps: int = 0  # of the run up to here
    stopped: bool = False  # by a callback

    def count(self, losses: list[float], weights: list[float]) -> None:
        """Mean losses of a batch, per step, and the weights of its rows that observed the step."""
        zeros = [0.0] * len(losses)
        batch = [loss * weight for loss, weight in zip(losses, weights, strict=True)]
        self.loss_sum = [a + b for a, b in zip(self.loss_sum or zeros, batch, strict=True)]
        self.weight_sum = [a + b for a, b in zip(self.weight_sum or zeros, weights, strict=True)]

    def update(self, metrics: MetaMetrics | None) -> None:
        """Add the metrics of a meta step, if there are any."""
        if metrics is None:
            return
        self._sum("tasks", [metrics.tasks])
        self._sum("lacking", metrics.lacking.tolist())
        if metrics.adaptation is not None:
            before, after, through = metrics.adaptation
            self._sum("watched", [1])
            self._sum("before", before.tolist())
            self._sum("after", after.tolist())
            self._sum("through", [through])

    def _sum(self, name: str, values: list[float]) -> None:
        before = self.meta_sums.get(name, [0.0] * len(values))
        self.meta_sums[name] = [a + b for a, b in zip(before, values, strict=True)]

    def losses(self) -> list[float]:
        """Means over the epoch so far; 0 for a step that no row observed."""
        pairs = zip(self.loss_sum, self.weight_sum, strict=True)
        return [total / weight if weight else 0.0 for total, weight in pairs]
