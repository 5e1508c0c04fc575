"""Builds what exports traces, where the settings ask for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service import __version__
from service.bootstrap.extras import needing_extra
from service.settings import Settings
from service.telemetry.tracing import trace_with

_LAST_SPANS = 2.0


@asynccontextmanager
async def exporting_traces(settings: Settings, service: str) -> AsyncIterator[None]:
    """Trace what happens inside this block, if that is wanted; raises `MissingExtra`."""
    if not settings.tracing:
        yield
        return
    with needing_extra("otel", "USA_TRACING"):
        from service.telemetry.otel import OtelTracer  # noqa: PLC0415 - only who traces needs it
    tracer = OtelTracer(service, __version__, settings.trace_ratio)
    trace_with(tracer)
    try:
        yield
    finally:
        trace_with(None)
        await asyncio.to_thread(tracer.close, _LAST_SPANS)
