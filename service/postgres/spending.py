"""The one place where what the ledger has booked becomes metrics."""

from asyncpg import Record

from service.domain.usage import Usage
from service.telemetry.metrics import MODEL_COST_USD, MODEL_TOKENS, TOKENS_WASTED


def count_spending(booked: Record, *, wasted: str | None) -> None:
    """Count what one statement added to the books of a model; `wasted` says why it was for nothing.

    A correction downwards is left out, because a counter only grows: what was booked for a call
    that was written off too early may exceed what it turns out to have used.
    """
    model = booked["model"]
    usage = Usage(booked["input"], booked["output"], booked["cache_read"], booked["cache_write"])
    for kind, tokens in usage.as_json().items():
        MODEL_TOKENS.labels(model=model, kind=kind).inc(max(0, tokens))
        if wasted is not None:
            TOKENS_WASTED.labels(kind=kind, why=wasted).inc(max(0, tokens))
    MODEL_COST_USD.labels(model=model).inc(max(0.0, float(booked["cost_usd"])))
