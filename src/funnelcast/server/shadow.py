"""The front's side of a shadow: a second bundle that scores a sample of the requests after these were answered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from random import Random
from typing import Any, Final, NamedTuple

from funnelcast.errors import FunnelcastError
from funnelcast.evaluation.probability_difference import ProbabilityDifference
from funnelcast.server.messages import Message
from funnelcast.server.refused import RefusedError
from funnelcast.server.scorers import Scorers
from funnelcast.server.settings import Settings, ShadowSettings

REQUESTS: Final = 1024
"""That wait for the shadow; the rows of further ones are dropped."""
BYTES: Final = 64 << 20
"""Of those, with their served probabilities."""
_VALUE: Final = 8
"""Bytes of a probability."""


class _Kept(NamedTuple):
    message: Message
    rows: int
    version: str
    """Of the bundle that answered."""

    @property
    def size(self) -> int:
        return len(self.message.body)


class Shadow:
    """A second bundle, in a process of its own at a low priority, and what it says more than the served one."""

    def __init__(self, settings: Settings, own: ShadowSettings, served: Scorers) -> None:
        scoring = replace(settings.scoring, bundle=own.bundle, deltas=None, log_rows=None, is_shadow=True)
        self._settings, self._served, self._bundle = own, served, settings.scoring.bundle
        self._scorers = Scorers(replace(settings, scoring=scoring, processes=1), "shadow ")
        self._random = Random(0)  # the n-th request is of the sample or not, at each start alike
        self._queue = asyncio.Queue[_Kept](REQUESTS)
        self._held = 0
        self._counts = {"scored": 0, "dropped": 0, "failed": 0}
        self._error: str | None = None
        self._versions = "", ""
        self._differences: dict[str, ProbabilityDifference] = {}

    async def start(self) -> None:
        """Load it. Raises FunnelcastError where it cannot be."""
        try:
            await self._scorers.replace(low=False)
        except FunnelcastError as error:
            raise FunnelcastError(f"the shadow cannot be loaded: {error}") from None
        self._scorers.in_background(self._run())

    def check(self, served: dict[str, Any]) -> None:
        """Raises FunnelcastError for a shadow with other outputs than the served bundle, of which this is the
        description."""
        if (own := self._scorers.description) is None:
            raise FunnelcastError(f"the process of the shadow {self._settings.bundle} ended; start the server again")
        if own["columns"] != served["columns"]:
            raise FunnelcastError(
                f"the shadow {self._settings.bundle} predicts {', '.join(own['columns'])}, and {self._bundle} predicts "
                f"{', '.join(served['columns'])}; give --shadow a bundle with the same funnel"
            )
        self._begin((served["version"], own["version"]), own["columns"])

    def reload(self) -> None:
        """Load what its folder has now, in the background."""
        self._scorers.reload()

    async def close(self) -> None:
        """End it at once."""
        await self._scorers.close(kill=True)

    def draws(self) -> bool:
        """Whether the next request is of the sample."""
        return self._random.random() < self._settings.share

    def take(self, head: dict[str, Any], body: bytes, answer: Message) -> Message:
        """The answer to a request of the sample as its client gets it, without the probabilities behind it. The request
        is kept for the shadow with these, or dropped where too many wait."""
        rows, outputs = answer.head["rows"], answer.head["outputs"]
        size = len(answer.body) - _VALUE * rows * len(outputs)
        message = Message({**head, "outputs": outputs, "size": len(body)}, body + answer.body[size:])
        kept = _Kept(message, rows, answer.head["version"])
        if self._scorers.description is None or self._queue.full() or self._held + kept.size > BYTES:
            self._counts["dropped"] += rows
        elif rows:
            self._held += kept.size
            self._queue.put_nowait(kept)
        return Message(answer.head, answer.body[:size])

    def figures(self) -> dict[str, Any]:
        """Counts since the start, and of each output the differences of the two bundles that are named."""
        served, own = self._versions
        return {
            "ready": self._scorers.description is not None,
            "served": {"bundle": str(self._bundle), "version": served},
            "shadow": {"bundle": str(self._settings.bundle), "version": own},
            "share": self._settings.share,
            "waiting": self._queue.qsize(),
            **self._counts,
            "restarts": self._scorers.restarts,
            "error": self._error,
            "outputs": {name: each.figures("served", "shadow") for name, each in self._differences.items()},
        }

    def _begin(self, versions: tuple[str, str], outputs: Iterable[str]) -> None:
        self._versions, self._differences = versions, {name: ProbabilityDifference() for name in outputs}

    async def _run(self) -> None:
        """One request after the other."""
        while True:
            kept = await self._queue.get()
            self._counts[await self._compare(kept)] += kept.rows
            self._held -= kept.size

    async def _compare(self, kept: _Kept) -> str:
        """What became of its rows."""
        served = self._served.description
        if self._scorers.description is None or served is None or served["version"] != kept.version:
            return "dropped"
        try:
            answer = await self._scorers.ask(kept.message.head, kept.message.body)
        except RefusedError as refused:
            self._error = refused.message
            return "failed"
        if answer.head["status"] != 200:
            self._error = answer.head["error"]
            return "failed"
        found = answer.head["differences"]
        if (versions := (kept.version, answer.head["version"])) != self._versions:
            self._begin(versions, found)
        for name, said in found.items():
            self._differences[name].merge(ProbabilityDifference.from_dict(said))
        return "scored"
