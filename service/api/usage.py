"""What callers have used, and what remains of their limits."""

from aiohttp import web

from service.api.auth import PRINCIPAL
from service.api.dependencies import DEPENDENCIES
from service.api.parameters import read_days, read_whole_tenant
from service.api.problems import forbidden
from service.api.usage_documents import (
    DayUsageDocument,
    QuotaDocument,
    UsageDocument,
    UsageHistory,
)
from service.domain.api_keys import Scope


async def get_usage(request: web.Request) -> web.StreamResponse:
    """Answer with what was used today."""
    used = await request.config_dict[DEPENDENCIES].usage.today(*_whose(request))
    return UsageDocument.of_today(used).respond()


async def list_daily_usage(request: web.Request) -> web.StreamResponse:
    """Answer with what was used on each of the last days."""
    whose, days = _whose(request), read_days(request)
    history = await request.config_dict[DEPENDENCIES].usage.daily(*whose, days)
    return UsageHistory(days=[DayUsageDocument.of(day) for day in history]).respond()


async def get_quota(request: web.Request) -> web.StreamResponse:
    """Answer with the caller's own limits: they count per user, never per tenant."""
    principal = request[PRINCIPAL]
    used = await request.config_dict[DEPENDENCIES].usage.today(
        principal.owner.tenant_id, principal.owner.user_id
    )
    return QuotaDocument.of(principal.tier, used).respond()


def _whose(request: web.Request) -> tuple[str, str | None]:
    principal = request[PRINCIPAL]
    if not read_whole_tenant(request):
        return principal.owner.tenant_id, principal.owner.user_id
    if Scope.JOBS_TENANT not in principal.scopes:
        raise forbidden(Scope.JOBS_TENANT)
    return principal.owner.tenant_id, None
