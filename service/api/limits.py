"""How often a caller may submit and read; cancelling is never limited."""

from enum import StrEnum
from math import ceil

from aiohttp import web

from service.api.auth import PRINCIPAL, Principal
from service.api.problems import too_many_requests
from service.api.rates import RATES
from service.domain.rate_limit import RatePolicy, RateVerdict
from service.telemetry.metrics import REQUESTS_LIMITED

_VERDICT = web.RequestKey("rate_verdict", RateVerdict)


class Limited(StrEnum):
    """What a request counts as."""

    SUBMIT = "submit"
    READ = "read"


_COUNTED = {Limited.SUBMIT: "submissions", Limited.READ: "reads"}


async def limit_rate(request: web.Request, limited: Limited) -> None:
    """Count an authorized request; raises 429 if it is one too many."""
    quota, holder = _allowance(request[PRINCIPAL], limited)
    if quota is None:
        return
    policy = RatePolicy(name=limited, quota=quota)
    told = request[_VERDICT] = await request.config_dict[RATES].take(policy, holder)
    if not told.allowed:
        REQUESTS_LIMITED.labels(what=limited).inc()
        room = f"there is room for one more in {max(1, ceil(told.reset))} s"
        detail = f"{quota} {_COUNTED[limited]} per minute are allowed; {room}"
        raise too_many_requests(detail, told.reset)


def _allowance(principal: Principal, limited: Limited) -> tuple[int | None, tuple[str, ...]]:
    """Return how many requests per minute are allowed, and to whom together."""
    if limited is Limited.READ:
        return principal.tier.reads_per_minute, (principal.caller,)
    owner = principal.owner
    return principal.tier.requests_per_minute, (owner.tenant_id, owner.user_id)


async def add_rate_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Say what is left, as draft-ietf-httpapi-ratelimit-headers-10 writes it."""
    told = request.get(_VERDICT)
    if told is not None:
        policy, reset = told.policy, ceil(told.reset)
        response.headers["RateLimit-Policy"] = f'"{policy.name}";q={policy.quota};w={policy.window}'
        response.headers["RateLimit"] = f'"{policy.name}";r={told.remaining};t={reset}'
