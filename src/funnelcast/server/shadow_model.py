"""A second bundle in a scoring process of its own: how far its probabilities are from those that were answered."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from funnelcast.evaluation.probability_difference import ProbabilityDifference
from funnelcast.server.infer import Columns, Request
from funnelcast.server.messages import Message
from funnelcast.server.served_model import ServedModel
from funnelcast.server.tensors import Tensor


class ShadowModel(ServedModel):
    """A loaded bundle that is asked what another one has answered. It reads the columns that it knows."""

    def answer(self, message: Message) -> Message:
        """To a request, followed by the served probabilities: `ProbabilityDifference.as_dict` of each output, shadow
        minus served, or an error."""
        names, size = message.head["outputs"], message.head["size"]
        if names != list(self.predictor.columns):
            own = ", ".join(self.predictor.columns)
            return _failed(
                f"the served bundle predicts {', '.join(names)} and the shadow {own}; load one of its funnel"
            )
        head = {**message.head, "arrived": math.inf}  # no client waits for it
        answer = super().answer(Message(head, message.body[:size]))
        if self._last is None:
            return answer
        values = np.frombuffer(message.body, "<f8", offset=size).reshape(len(names), -1)
        return self._compared(dict(zip(names, values, strict=True)), self._last.p)

    def _compared(self, served: Columns, own: Columns) -> Message:
        differences: dict[str, Any] = {}
        for name, p in own.items():
            if len(p) != len(served[name]):
                return _failed("the shadow reads no column of which the request has a value for each row")
            if not np.isfinite(p).all() or not np.isfinite(served[name]).all():
                return _failed(f"{name} is not a number in some rows; train the bundle again")
            difference = ProbabilityDifference()
            difference.add(served[name], p)
            differences[name] = difference.as_dict()
        return Message({"status": 200, "version": self.version, "differences": differences})

    def _require_version(self, model: str, version: str) -> None:
        """What the client has named is the served one."""

    def _known(self, request: Request) -> list[Tensor]:
        return [tensor for tensor in request.tensors if self.signature.knows(tensor.name)]


def _failed(error: str) -> Message:
    return Message({"status": 400, "error": error})
