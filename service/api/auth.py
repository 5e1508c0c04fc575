"""Who is calling: reads the credential of a request and attaches the caller to it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from service.api.problems import Problem, forbidden, unauthorized
from service.domain.api_keys import MARK, Scope
from service.domain.job import Owner
from service.domain.tiers import Tier


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a request.

    `caller` tells credentials apart and holds no secret: `key:<prefix>` or `jwt:<hash of bearer>`.
    """

    owner: Owner
    scopes: frozenset[str]
    tier: Tier
    caller: str

    @property
    def visible_user(self) -> str | None:
        """Whose jobs the caller sees; None means the whole tenant's."""
        return None if Scope.JOBS_TENANT in self.scopes else self.owner.user_id


PRINCIPAL: Final = web.RequestKey("principal", Principal)

# Says whose a credential is; raises what `refused` returns, or `Unavailable`.
Recognise = Callable[[str], Awaitable[Principal]]


def refused() -> Problem:
    """Return the one answer to every credential that is not taken, whatever is wrong with it."""
    return unauthorized("the API key or token is unknown, expired or revoked")


class Authenticator:
    """Recognises API keys and, where an issuer is trusted, its JWTs."""

    def __init__(self, keys: Recognise, tokens: Recognise | None = None) -> None:
        self._keys = keys
        self._tokens = tokens

    async def authenticate(self, request: web.Request) -> Principal:
        """Return who is calling; raises 401 or `Unavailable`."""
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return await self._recognise(bearer.strip())
        key = request.headers.get("X-API-Key")
        if key is None:
            raise unauthorized(
                "send an API key as `Authorization: Bearer <key>` or `X-API-Key: <key>`"
            )
        return await self._keys(key.strip())

    async def _recognise(self, bearer: str) -> Principal:
        if self._tokens is None or bearer.startswith(MARK):
            return await self._keys(bearer)
        return await self._tokens(bearer)


AUTHENTICATOR: Final = web.AppKey("authenticator", Authenticator)


async def authorize(request: web.Request, scope: Scope) -> None:
    """Attach the caller to the request; raises 401, 403 or `Unavailable`."""
    principal = await request.config_dict[AUTHENTICATOR].authenticate(request)
    request[PRINCIPAL] = principal
    if scope not in principal.scopes:
        raise forbidden(scope)
