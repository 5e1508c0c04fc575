"""What was used, and what remains of the limits."""

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.options import AsJson
from service.cli.output import print_json, show, table
from service.domain.job import JsonObject

if TYPE_CHECKING:
    from service.client.usage_client import UsageClient

_MOST_DAYS = 90
_LIMITS = (
    ("requests per day", "requestsPerDay"),
    ("tokens per day", "tokensPerDay"),
    ("concurrent jobs", "concurrentJobs"),
)
_TOKENS = ("input", "output", "cacheRead", "cacheWrite")


def usage(
    days: Annotated[
        int | None,
        typer.Option(min=1, max=_MOST_DAYS, help="Day by day instead, so many days back."),
    ] = None,
    tenant: Annotated[
        bool, typer.Option("--tenant", help="The whole tenant's; takes the scope jobs:tenant.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what you have used today, and what remains of your limits; days are UTC."""
    from service.cli import remote

    if days is not None:
        history = remote.ask_usage(lambda client: client.daily_usage(days, whole_tenant=tenant))
        print_json(history) if as_json else show(_days(history["days"]))
        return
    answer = remote.ask_usage(lambda client: _today(client, whole_tenant=tenant))
    print_json(answer) if as_json else show(_summary(answer))


async def _today(client: "UsageClient", *, whole_tenant: bool) -> JsonObject:
    used = await client.usage(whole_tenant=whole_tenant)
    # Limits count per user, never per tenant.
    return {"usage": used} if whole_tenant else {"usage": used, "quota": await client.quota()}


def _days(days: list[JsonObject]) -> str:
    heading = ("DAY", "REQUESTS", "INPUT", "OUTPUT", "CACHE READ", "CACHE WRITE", "COST USD")
    return table([heading, *map(_day, days)])


def _day(day: JsonObject) -> tuple[str, ...]:
    tokens = [f"{day['tokenUsage'][kind]:,}" for kind in _TOKENS]
    return (day["day"], f"{day['requests']:,}", *tokens, _cost(day))


def _cost(day: JsonObject) -> str:
    unpriced = day["unpricedCalls"]
    return f"{day['costUsd']:.4f}" + (f" and {unpriced} calls without a price" if unpriced else "")


def _summary(answer: JsonObject) -> str:
    used = answer["usage"]
    lines = [
        f"{used['day']}: {used['requests']:,} requests, {used['activeJobs']:,} active jobs,"
        f" {sum(used['tokenUsage'].values()):,} tokens ({used['reservedTokens']:,} more reserved),"
        f" cost ${_cost(used)}"
    ]
    if "quota" in answer:
        lines += ["", _limits(answer["quota"])]
    return "\n".join(lines)


def _limits(quota: JsonObject) -> str:
    resets_at = quota["requestsPerDay"]["resetsAt"][:16].replace("T", " ")
    rows = [(f"TIER {quota['tier'].upper()}", "LIMIT", "USED", "RESERVED", "REMAINING")]
    for name, key in _LIMITS:
        limit = quota[key]
        taken = (f"{limit['used']:,}", f"{limit.get('reserved', 0):,}")
        rows.append((name, _bound(limit["limit"]), *taken, _bound(limit["remaining"])))
    return f"{table(rows)}\ndays end at {resets_at} UTC"


def _bound(limit: int | None) -> str:
    return "no limit" if limit is None else f"{limit:,}"
