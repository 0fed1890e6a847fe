"""A bundle in a scoring process: from a request's bytes to an answer's."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

from funnelcast.errors import FunnelcastError
from funnelcast.server.assemble import Rows, rows_of
from funnelcast.server.figures import Figures
from funnelcast.server.headers import ARROW, JSON
from funnelcast.server.infer import Columns, Request, read_request, write_answer
from funnelcast.server.logged_columns import Answered, LoggedColumns
from funnelcast.server.messages import Message
from funnelcast.server.refused import RefusedError, require_served
from funnelcast.server.request_log import RequestLog
from funnelcast.server.rows import read_arrow, read_json, write_arrow, write_json
from funnelcast.server.settings import Scoring
from funnelcast.server.signature import Signature
from funnelcast.server.tensors import Tensor, raw_of
from funnelcast.server.warm_up import warm_up
from funnelcast.serving.golden import check_golden
from funnelcast.serving.predictor import load


class ServedModel:
    """A loaded bundle that answers requests, one after the other."""

    def __init__(self, settings: Scoring) -> None:
        """Load and warm up. Raises FunnelcastError for a bundle or deltas that cannot be served, and for a folder into
        which rows cannot be logged."""
        predictor = load(settings.bundle, cast(Any, settings.precision))
        check_golden(predictor.bundle, settings.bundle, settings.precision)
        if settings.deltas is not None:
            predictor = predictor.with_deltas(settings.deltas)
        self.settings, self.predictor = settings, predictor
        self.signature = Signature.of(predictor.bundle.encoder, predictor.key)
        self.figures = Figures(predictor.bundle)
        self.version = predictor.bundle.fingerprint
        self._last: Answered | None = None
        self._kinds: dict[str, Callable[[dict[str, Any], bytes], Message]] = {
            "infer": self._infer,
            "grpc": self._grpc,
            "rows": self._rows,
            "figures": self._figures,
        }
        warm_up(predictor)
        own = settings.log_rows
        self.log = None if own is None else RequestLog(own, LoggedColumns(self.signature, predictor))

    def description(self) -> dict[str, Any]:
        """What the front says of the model."""
        bundle = self.predictor.bundle
        funnel = bundle.encoder.schema.funnel
        return {
            "name": self.settings.name,
            "version": self.version,
            "model": bundle.experiment["model"]["name"],
            "steps": list(funnel.names),
            "rates": bundle.rates,
            "deltas": len(self.predictor.deltas),
            "key": self.predictor.key,
            "columns": list(self.predictor.columns),
            **self.signature.metadata(),
        }

    def answer(self, message: Message) -> Message:
        """The answer to a request, an error's too; with the head's `with_p`, all probabilities follow the body."""
        self._last = None
        try:
            answer = self._kinds[message.head["kind"]](message.head, message.body)
            return self._with_p(answer) if message.head.get("with_p") else answer
        except RefusedError as refused:
            return Message({"status": refused.status, "error": refused.message})
        except FunnelcastError as error:
            return Message({"status": 400, "error": str(error)})

    def _with_p(self, answer: Message) -> Message:
        """One output after the other, little-endian float64."""
        p = {} if self._last is None else self._last.p
        head = {**answer.head, "version": self.version, "outputs": list(p)}
        return Message(head, b"".join([answer.body, *map(raw_of, p.values())]))

    def after(self, message: Message) -> None:
        """What is left to do for a request when its answer has been sent."""
        if self.log is not None and self._last is not None:
            self.log.offer(self._last, len(message.body))

    def close(self) -> None:
        """Write what is left of the log."""
        if self.log is not None:
            self.log.close()

    def _figures(self, head: dict[str, Any], body: bytes) -> Message:
        said = self.figures.as_dict()
        return Message({"status": 200, "figures": said if self.log is None else {**said, "log": self.log.counts()}})

    def _infer(self, head: dict[str, Any], body: bytes) -> Message:
        request = read_request(body, head["json_bytes"])
        columns = self._score_tensors(head, request)
        headers, answer = write_answer(request, columns, self.settings.name, self.version)
        return _answer(columns, headers, answer)

    def _grpc(self, head: dict[str, Any], body: bytes) -> Message:
        from funnelcast.server.grpc_infer import GrpcRequest  # its libraries are an extra

        call = GrpcRequest(body)
        self._require_version(call.model, call.version)
        request = call.request()
        columns = self._score_tensors(head, request)
        return _answer(columns, {}, call.answer(request, columns, self.settings.name, self.version))

    def _rows(self, head: dict[str, Any], body: bytes) -> Message:
        _require_time(head, None)
        if head["type"] == ARROW:
            columns = self._score(read_arrow(body), head.get("id"))
            return _answer(columns, {"content-type": ARROW}, write_arrow(columns))
        rows, by_column = read_json(body, self.signature)
        columns = self._score(rows, head.get("id"))
        text = write_json(columns, by_column, self.settings.name, self.version)
        return _answer(columns, {"content-type": JSON}, text)

    def _score_tensors(self, head: dict[str, Any], request: Request) -> Columns:
        _require_time(head, request.seconds)
        self.signature.require_outputs(request.outputs)
        return self._score(rows_of(self._known(request), self.signature), request.id or head.get("id"))

    def _require_version(self, model: str, version: str) -> None:
        require_served(self.settings.name, model, self.version, version)

    def _known(self, request: Request) -> list[Tensor]:
        """Those that are read."""
        return request.tensors

    def _score(self, rows: Rows, request_id: str | None) -> Columns:
        if rows.own.num_rows > self.settings.max_rows:
            raise RefusedError(413, f"{rows.own.num_rows:,} rows; send at most {self.settings.max_rows:,} in a request")
        encoded = self.predictor.encode(*rows)
        columns = self.predictor.score(encoded)
        self.figures.add(encoded, rows.shared, columns)
        self._last = Answered(*rows, columns, request_id)
        return columns


def _require_time(head: dict[str, Any], seconds: float | None) -> None:
    """Raises RefusedError for a request that nobody waits for any more."""
    waited = time.monotonic() - head["arrived"]
    allowed = min(head["seconds"], head["seconds"] if seconds is None else seconds)
    if waited > allowed:
        raise RefusedError(
            504, f"the request waited {waited:.3f} s of the {allowed:g} s that it had; send fewer at a time"
        )


def _answer(columns: Columns, headers: dict[str, str], body: bytes) -> Message:
    rows = len(next(iter(columns.values())))
    return Message({"status": 200, "headers": headers, "rows": rows}, body)
