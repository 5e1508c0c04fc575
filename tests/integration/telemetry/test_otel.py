"""Spans reach a collector, or are counted; nothing but what is meant to be seen is in them."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from service.domain.attempt import Fence
from service.telemetry.metrics import REGISTRY
from service.telemetry.otel import OtelTracer
from service.telemetry.tracing import Kind, Span, span, trace_with
from tests.fixtures.collector import Collector
from tests.fixtures.waiting import eventually

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE, PARENT_ID = PARENT.split("-")[1:3]
JOB = UUID(int=7)

Start = Callable[..., OtelTracer]


def lost() -> float:
    """How many spans were lost so far."""
    return REGISTRY.get_sample_value("usa_trace_spans_lost_total") or 0.0


@pytest.fixture
async def start(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """How a process begins to trace; whatever was begun is ended."""
    for name, value in collector.environment().items():
        monkeypatch.setenv(name, value)
    begun: list[OtelTracer] = []

    def start_tracing(service: str = "usa-test", ratio: float = 1.0) -> OtelTracer:
        begun.append(OtelTracer(service, "1.0", ratio))
        trace_with(begun[-1])
        return begun[-1]

    yield start_tracing
    trace_with(None)
    collector.ending.set()
    for tracer in begun:
        tracer.close(0)
    await eventually(lambda: not any(t.name == "last spans" for t in threading.enumerate()))


async def end(tracer: OtelTracer, within: float = 20.0) -> None:
    """End a tracer, while the collector of the same event loop answers it."""
    await asyncio.to_thread(tracer.close, within)


async def test_a_span_arrives_as_what_it_is(collector: Collector, start: Start) -> None:
    tracer = start("usa-api")
    with span(Kind.SERVER, "outer", parent=PARENT, attributes={"a": 1, "none": None}) as outer:
        outer.note({"b": True, "nothing": None})
        with span(Kind.CLIENT, "inner") as inner:
            inner.fail("MODEL_UNAVAILABLE")
    await end(tracer)

    [seen], [child] = collector.named("outer"), collector.named("inner")
    assert (seen.service, seen.kind, seen.trace, seen.parent) == (
        "usa-api", "server", TRACE, PARENT_ID,
    )  # fmt: skip
    assert seen.attributes == {"a": 1, "b": True}
    assert seen.trace_parent == outer.trace_parent
    assert (child.kind, child.trace, child.parent) == ("client", TRACE, seen.id)
    assert (child.attributes, child.has_failed) == ({"error.type": "MODEL_UNAVAILABLE"}, True)
    assert not seen.has_failed


async def test_what_is_raised_is_not_written_down(collector: Collector, start: Start) -> None:
    tracer = start()
    with pytest.raises(ValueError, match="canary"), span(Kind.CLIENT, "broken"):
        raise ValueError("a story with a canary")
    await end(tracer)

    assert [each.name for each in collector.spans] == ["broken"]
    assert "canary" not in "".join(collector.texts)


async def test_an_attempt_is_linked_with_one_that_another_process_ran(
    collector: Collector, start: Start
) -> None:
    for attempt in (1, 2):
        tracer = start()
        follows = Fence(JOB, attempt - 1) if attempt > 1 else None
        with span(
            Kind.CONSUMER, "run", parent=PARENT, attempt=Fence(JOB, attempt), follows=follows
        ), span(Kind.CLIENT, "call"):  # fmt: skip
            pass
        await end(tracer)

    first, second = collector.named("run")
    assert (first.links, second.links) == ((), ((TRACE, first.id),))
    # Only the attempt has an id that is known before.
    assert len({each.id for each in collector.spans}) == 4


@pytest.mark.parametrize("parent", [None, "", "00-zz-1-01", "00-" + "0" * 32 + "-" + "1" * 16])
async def test_without_a_trace_to_go_on_with_a_new_one_begins(
    collector: Collector, start: Start, parent: str | None
) -> None:
    tracer = start()
    for number in (1, 2):
        with span(Kind.CONSUMER, "run", parent=parent, follows=Fence(JOB, number)):
            pass
    await end(tracer)

    first, second = collector.named("run")
    assert first.trace != second.trace
    assert {(each.parent, each.links) for each in (first, second)} == {("", ())}


@pytest.mark.parametrize(("ratio", "names"), [(0.0, {"theirs"}), (1.0, {"theirs", "ours"})])
async def test_the_ratio_is_for_traces_that_begin_here(
    collector: Collector, start: Start, ratio: float, names: set[str]
) -> None:
    tracer = start(ratio=ratio)
    with span(Kind.SERVER, "theirs", parent=PARENT):
        pass
    with span(Kind.SERVER, "not wanted", parent=PARENT[:-2] + "00") as unwanted:
        pass
    with span(Kind.SERVER, "ours") as ours:
        pass
    await end(tracer)

    assert {each.name for each in collector.spans} == names
    # Those that are not recorded go on as such, under an id by which logs can be found.
    assert unwanted.trace_parent is not None
    assert unwanted.trace_parent.startswith(f"00-{TRACE}-")
    assert not int(unwanted.trace_parent[-2:], 16) & 1
    assert ours.trace_parent is not None
    assert bool(int(ours.trace_parent[-2:], 16) & 1) == ("ours" in names)


async def test_the_variables_of_opentelemetry_say_who_it_is(
    collector: Collector, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "stories")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=blue")
    tracer = start("usa-api")
    with span(Kind.SERVER, "any"):
        pass
    await end(tracer)

    assert collector.spans[0].service == "stories"
    assert "blue" in collector.texts[0]


async def test_a_collector_is_told_of_once_when_it_goes_and_once_when_it_comes_back(
    collector: Collector, start: Start
) -> None:
    before, tracer = lost(), start()
    with capture_logs() as logs:
        for status, count in ((400, 2), (200, 2), (400, 2)):
            collector.status = status
            for _ in range(count):
                answered = collector.refused.total() + len(collector.texts)
                with span(Kind.SERVER, "any"):
                    pass
                await eventually(
                    lambda last=answered: collector.refused.total() + len(collector.texts) > last  # type: ignore[misc]
                )
        await end(tracer)

    assert [record["event"] for record in logs] == [
        "traces_not_exported", "traces_exported_again", "traces_not_exported",
    ]  # fmt: skip
    assert lost() - before == 4


async def test_a_collector_that_is_silent_costs_the_spans_and_no_more(
    collector: Collector, start: Start
) -> None:
    collector.stalls = True
    before, tracer = lost(), start()
    for _ in range(3000):
        with span(Kind.SERVER, "any"):
            pass
    # Neither memory without end ...
    assert lost() > before
    # ... nor an end that waits for it.
    with capture_logs() as logs:
        await end(tracer, 0.1)
    assert [record["event"] for record in logs] == ["last_traces_not_exported"]
    assert lost() - before == 3000
    assert collector.spans == []


async def test_a_refusal_by_the_library_is_told_without_what_it_quotes(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=canary%0Akey")
    tracer = start()
    with capture_logs() as logs:
        with span(Kind.SERVER, "any"):
            pass
        await end(tracer)

    [record] = logs
    assert record["event"] == "traces_not_exported"
    assert "InvalidHeader" in record["reason"]
    assert "canary" not in str(logs)


async def test_a_header_that_is_malformed_is_told_of_and_not_shown(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key: canary")
    start()

    [told] = [record.getMessage() for record in caplog.records]
    assert "Header format invalid" in told
    assert "canary" not in told


def test_where_tracing_is_off_a_span_is_nothing() -> None:
    def work(traced: Span) -> str | None:
        traced.note({"a": 1})
        traced.fail("ANY")
        return traced.trace_parent

    with span(Kind.SERVER, "any", parent=PARENT) as traced:
        assert work(traced) is None
