"""Figures of a server for Prometheus, and for the status page."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

SECONDS: Final = (0.001, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
"""Upper edges of the histogram of latency."""
LAST: Final = 10_000
"""Requests of which quantiles are shown."""
_SCORED: Final = ("/infer", "/v1/rows", "/ModelInfer")
"""How paths end that score."""


class Metrics:
    """Counts of requests, and what scoring processes say of their rows."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter("funnelcast_requests", "Requests", ["kind", "status"], registry=self._registry)
        self._seconds = Histogram(
            "funnelcast_request_seconds",
            "Seconds from the head of a request that scores to the end of its answer",
            buckets=SECONDS,
            registry=self._registry,
        )
        self._last: deque[float] = deque(maxlen=LAST)
        self._of_scoring = _OfScoring()
        self._registry.register(self._of_scoring)
        self.served = self.failed = 0
        """Requests that score: with an answer, and with an error of the server."""

    def count(self, path: str, status: int, seconds: float) -> None:
        """A request that has ended."""
        scores = path.endswith(_SCORED)
        self._requests.labels("score" if scores else "other", str(status)).inc()
        if scores:
            self._seconds.observe(seconds)
            self._last.append(seconds)
            self.served += status == 200
            self.failed += status >= 500

    def text(self, status: dict[str, Any]) -> bytes:
        """All of them as Prometheus reads them; of scoring by what `status` has."""
        self._of_scoring.status = status
        return generate_latest(self._registry)

    def latency(self) -> dict[str, float | None]:
        """Milliseconds of the last requests: quantiles."""
        ordered = sorted(self._last)
        at = {f"p{q:g}": ordered[min(len(ordered) - 1, int(q / 100 * len(ordered)))] for q in (50, 90, 99) if ordered}
        return {name: round(1e3 * at[name], 3) if name in at else None for name in ("p50", "p90", "p99")}


def summed(figures: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The figures of several processes of one bundle as those of one."""
    total: dict[str, Any] = {}
    for each in figures:
        total = {name: _plus(total.get(name), value) for name, value in each.items() if name != "expected"}
        total["expected"] = each["expected"]
    return total


def _plus(a: Any, b: Any) -> Any:
    if a is None:
        return b
    if isinstance(b, dict):
        return {name: _plus(a.get(name), b.get(name)) for name in {**a, **b}} if b else a
    if isinstance(b, list):
        return [x + y for x, y in zip(a, b, strict=True)]
    return a if b is None else a + b


class _OfScoring(Collector):
    """What the last `status` says, under Prometheus' names."""

    def __init__(self) -> None:
        self.status: dict[str, Any] = {}

    def collect(self) -> Iterator[Metric]:
        status = self.status
        yield GaugeMetricFamily("funnelcast_ready", "1 where the model answers", float(status.get("ready", False)))
        yield GaugeMetricFamily("funnelcast_queue", "Requests that wait", status.get("queue", 0))
        if status.get("shadow"):
            yield from _of_shadow(status["shadow"])
        if not status.get("ready"):
            return
        info = GaugeMetricFamily("funnelcast_model_info", "The served bundle", labels=["name", "version", "model"])
        info.add_metric([status["name"], status["version"], status["model"]], 1)
        yield info
        yield CounterMetricFamily("funnelcast_rows", "Rows scored since the bundle was loaded", status["total"])
        yield from self._by("column", "funnelcast_unknown_share", "Ids unknown to the model", status["unknown"])
        yield from self._by("column", "funnelcast_missing_share", "Values that were missing", status["missing"])
        means = {name: said["mean"] for name, said in status["outputs"].items()}
        yield from self._by("output", "funnelcast_predicted_mean", "Mean of the predictions", means)
        shifts = {name: said["psi"] for name, said in status["outputs"].items()}
        yield from self._by("output", "funnelcast_predicted_psi", "Stability index against training", shifts)
        if status["log"] is not None:
            yield from _of_log(status["log"])

    def _by(self, label: str, name: str, about: str, values: dict[str, float | None]) -> Iterator[Metric]:
        family = GaugeMetricFamily(name, about + ", of the last rows", labels=[label])
        for key, value in values.items():
            if value is not None:
                family.add_metric([key], value)
        yield family


def _of_shadow(figures: dict[str, Any]) -> Iterator[Metric]:
    rows = CounterMetricFamily("funnelcast_shadow_rows", "Rows of the sample for the shadow", labels=["result"])
    for result in ("scored", "dropped", "failed"):
        rows.add_metric([result], figures[result])
    yield rows
    yield CounterMetricFamily("funnelcast_shadow_restarts", "Restarts of the shadow", figures["restarts"])
    yield GaugeMetricFamily("funnelcast_shadow_ready", "1 where the shadow scores", float(figures["ready"]))
    about = "Mean of the shadow's prediction minus the served one, of both bundles' rows"
    difference = GaugeMetricFamily("funnelcast_shadow_difference", about, labels=["output"])
    for name, said in figures["outputs"].items():
        if said["rows"]:
            difference.add_metric([name], said["difference"])
    yield difference


def _of_log(counts: dict[str, int]) -> Iterator[Metric]:
    yield CounterMetricFamily("funnelcast_logged_rows", "Rows in the files of the log of rows", counts["rows"])
    requests = CounterMetricFamily("funnelcast_logged_requests", "Requests of the log of rows", labels=["result"])
    for result, name in (("written", "requests"), ("dropped", "dropped"), ("failed", "failed")):
        requests.add_metric([result], counts[name])
    yield requests
