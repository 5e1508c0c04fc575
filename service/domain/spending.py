"""Adds up what finished calls used."""

from collections.abc import Iterable
from decimal import Decimal

from service.domain.attempt import Checkpoint
from service.domain.job import JsonObject
from service.domain.usage import Usage


def spent(replies: Iterable[Checkpoint]) -> JsonObject:
    """`{tokenUsage, costUsd, durationMs}`; the cost is None if any price was unknown."""
    usage, cost, duration = Usage(), Decimal(0), 0
    is_known = True
    for reply in replies:
        usage += reply.usage
        duration += reply.duration_ms
        cost += reply.cost_usd or 0
        is_known = is_known and reply.cost_usd is not None
    return {
        "tokenUsage": usage.as_json(),
        "costUsd": float(cost) if is_known else None,
        "durationMs": duration,
    }


def models_of(replies: Iterable[Checkpoint]) -> list[str]:
    """Return the models that answered, in the order of their first answer."""
    return list(dict.fromkeys(reply.model for reply in replies))
