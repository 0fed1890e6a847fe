"""How a bundle is calibrated when it is trained."""

from __future__ import annotations

from pydantic import Field

from funnelcast.data.encoder import InputSpec
from funnelcast.errors import Fault, did_you_mean
from funnelcast.schema.config import Config


class CalibrationConfig(Config):
    """Probabilities are mapped, step by step, so that rates and predictions agree on rows of the dev part that neither
    training nor stopping used."""

    share: float = Field(default=0.5, gt=0, lt=1)
    """Of the dev rows, drawn by the seed, in whole keys where the split is by a key; the rest stop the training. Where
    the first step would have fewer than 30 rows of either class, all dev rows stop the training and nothing is
    calibrated."""
    by: str | None = None
    """An id feature, such as the campaign: log odds are moved by an offset for each of its values, drawn to 0 where its
    rows are few, if that lowers the log-loss of held-out rows."""

    def check(self, inputs: InputSpec, where: str = "calibration") -> list[Fault]:
        """Faults that show only beside the input."""
        fields = [name for name, _ in inputs.fields]
        if self.by is None or self.by in fields:
            return []
        fix = did_you_mean(self.by, fields) or "leave it out"
        return [Fault(f"{where}.by", f"{self.by!r} is no id feature of the table", fix)]
