"""Spans through OpenTelemetry's SDK, sent by OTLP over HTTP; imported only where they are."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Thread
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.domain.attempt import Fence
from service.telemetry.logs import get_log
from service.telemetry.metrics import SPANS_LOST
from service.telemetry.tracing import Attributes, Kind

_log = get_log(__name__)

# Enough for a minute of a busy worker; beyond it the oldest are dropped.
_MOST_WAITING: Final = 2048
_SPAN_ID_BYTES: Final = 8
_KINDS: Final = {
    Kind.SERVER: trace.SpanKind.SERVER,
    Kind.CLIENT: trace.SpanKind.CLIENT,
    Kind.PRODUCER: trace.SpanKind.PRODUCER,
    Kind.CONSUMER: trace.SpanKind.CONSUMER,
}
_W3C = TraceContextTextMapPropagator()
_next_span_id: ContextVar[int | None] = ContextVar("next_span_id", default=None)


class OtelTracer:
    """Makes spans and sends them in the background, never in the way of the work they are about.

    `ratio` of the traces that begin here are recorded; a trace that began elsewhere goes on as
    it began. Where to, and with which headers, say the OTEL_EXPORTER_OTLP_* variables.
    """

    def __init__(self, service: str, version: str, ratio: float) -> None:
        named = Resource.create({"service.name": service, "service.version": version})
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(ratio)),
            # The variables again, because names given in code would win over theirs.
            resource=named.merge(OTELResourceDetector().detect()),
            id_generator=_Ids(),
            shutdown_on_exit=False,
        )
        with _headers_untold():
            exporter = trace_exporter.OTLPSpanExporter()
        self._outbox = _Outbox(_Exporter(exporter))
        self._provider.add_span_processor(self._outbox)
        self._tracer = self._provider.get_tracer("user-story-service", version)

    @contextmanager
    def span(
        self,
        kind: Kind,
        name: str,
        *,
        parent: str | None,
        attempt: Fence | None,
        follows: Fence | None,
        attributes: Attributes,
    ) -> Iterator["_Span"]:
        """Begin a span; see `service.telemetry.tracing.span`."""
        around = None if parent is None else _W3C.extract({"traceparent": parent})
        chosen = _next_span_id.set(None if attempt is None else _span_id(attempt))
        try:
            begun = self._tracer.start_span(
                name,
                around,
                _KINDS[kind],
                attributes=_known(attributes),
                links=_links(around, follows),
            )
        finally:
            _next_span_id.reset(chosen)
        # What was raised may quote a story.
        with trace.use_span(
            begun, end_on_exit=True, record_exception=False, set_status_on_exception=False
        ):
            yield _Span(begun)

    def close(self, within: float) -> None:
        """Send what is left, for a bounded time; blocks."""
        # A collector that is silent would keep the provider's own end waiting for much longer.
        ending = Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        ending.start()
        ending.join(within)
        self._outbox.give_up()


class _Span:
    def __init__(self, begun: trace.Span) -> None:
        self._begun = begun

    @property
    def trace_parent(self) -> str | None:
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, trace.set_span_in_context(self._begun))
        return carrier.get("traceparent")

    def note(self, attributes: Attributes) -> None:
        self._begun.set_attributes(_known(attributes))

    def fail(self, code: str) -> None:
        self._begun.set_status(trace.Status(trace.StatusCode.ERROR))
        self._begun.set_attribute("error.type", code)


@contextmanager
def _headers_untold() -> Iterator[None]:
    """Log that a header is malformed, and not the key that is in it."""

    def hide(record: logging.LogRecord) -> bool:
        record.args = ("(not shown)",)
        return True

    parser = logging.getLogger("opentelemetry.util.re")
    parser.addFilter(hide)
    try:
        yield
    finally:
        parser.removeFilter(hide)


def _known(attributes: Attributes) -> dict[str, str | int | float | bool]:
    return {name: value for name, value in attributes.items() if value is not None}


def _links(around: Context | None, follows: Fence | None) -> list[trace.Link]:
    of_trace = trace.get_current_span(around).get_span_context()
    if follows is None or not of_trace.is_valid:
        return []
    before = trace.SpanContext(
        of_trace.trace_id, _span_id(follows), is_remote=True, trace_flags=of_trace.trace_flags
    )
    return [trace.Link(before, {"usa.attempt": follows.attempt})]


def _span_id(attempt: Fence) -> int:
    text = f"{attempt.job_id}/{attempt.attempt}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:_SPAN_ID_BYTES]) or 1


class _Ids(RandomIdGenerator):
    def generate_span_id(self) -> int:
        return _next_span_id.get() or super().generate_span_id()


class _Outbox(BatchSpanProcessor):
    """Counts what it drops, which the library only logs, again and again."""

    def __init__(self, exporter: "_Exporter") -> None:
        super().__init__(exporter, max_queue_size=_MOST_WAITING)
        self._exporter = exporter
        self._ended = 0
        self._dropped = 0
        # What it warns of is each span that is dropped.
        logging.getLogger("opentelemetry.sdk._shared_internal").setLevel(logging.ERROR)

    def on_end(self, span: ReadableSpan) -> None:
        super().on_end(span)
        if span.context is None or not span.context.trace_flags.sampled:
            return
        self._ended += 1
        if self._waiting > _MOST_WAITING:
            self._dropped += 1
            SPANS_LOST.inc()

    @property
    def _waiting(self) -> int:
        return self._ended - self._dropped - self._exporter.taken

    def give_up(self) -> None:
        """Count what was not sent in time."""
        unsent = self._waiting + self._exporter.in_flight
        if unsent:
            SPANS_LOST.inc(unsent)
            _log.warning("last_traces_not_exported", spans=unsent)


class _Exporter(SpanExporter):
    """Tells once that a collector takes nothing, and once that it does again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self.taken = 0
        self.in_flight = 0
        self._exporter = exporter
        self._is_down = False
        self._reason = ""
        logging.getLogger(trace_exporter.__name__).addFilter(self._keep)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._reason = ""
        self.taken += len(spans)
        self.in_flight = len(spans)
        result = self._exporter.export(spans)
        self.in_flight = 0
        if result is not SpanExportResult.SUCCESS:
            SPANS_LOST.inc(len(spans))
            if not self._is_down:
                _log.warning("traces_not_exported", reason=self._reason)
        elif self._is_down:
            _log.info("traces_exported_again")
        self._is_down = result is not SpanExportResult.SUCCESS
        return result

    def shutdown(self) -> None:
        logging.getLogger(trace_exporter.__name__).removeFilter(self._keep)
        self._exporter.shutdown()

    def _keep(self, record: logging.LogRecord) -> bool:
        """Keep the first complaint instead of logging each; an error's text may quote a key."""
        told = record.args if isinstance(record.args, tuple) else ()
        plain = tuple(type(each).__name__ if isinstance(each, Exception) else each for each in told)
        self._reason = self._reason or str(record.msg) % plain
        return False
