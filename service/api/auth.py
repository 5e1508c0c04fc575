"""Who is calling: API keys, their scopes, and a short memory of both."""

import hashlib
from asyncio import Future, get_running_loop, shield
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Final

from aiohttp import web

from service.api.problems import forbidden, unauthorized
from service.domain.api_keys import Scope, parse_key
from service.domain.errors import Unavailable
from service.domain.job import Owner
from service.domain.tiers import Tier, tier_named
from service.ports.access import ApiKey, ApiKeyStore
from service.supervision import Background
from service.telemetry.logs import get_log
from service.telemetry.metrics import LOST_MARKS

_log = get_log(__name__)

_KNOWN_FOR = 30.0
_UNKNOWN_FOR = 5.0
_NO_HASH = hashlib.sha256(b"").digest()
_REFUSED = "the API key is unknown, expired or revoked"


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a request.

    `caller` tells credentials apart and holds no secret: `key:<prefix>`.
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


@dataclass(slots=True)
class _Memory:
    """What a lookup found, until when it may be used, and whether the use was noted."""

    key: ApiKey | None
    until: float
    is_touched: bool = False


class Authenticator:
    """Recognises API keys, asking the store at most once per key and half minute.

    A revocation takes effect within 30 seconds, a new key works within 5.
    """

    def __init__(
        self,
        keys: ApiKeyStore,
        background: Background,
        *,
        clock: Callable[[], float] = monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        most_remembered: int = 10_000,
    ) -> None:
        self._keys = keys
        self._background = background
        self._clock = clock
        self._now = now
        self._most_remembered = most_remembered
        # Two memories, so that guessed prefixes cannot push real keys out.
        self._known: OrderedDict[str, _Memory] = OrderedDict()
        self._unknown: OrderedDict[str, _Memory] = OrderedDict()
        self._lookups: dict[str, Future[_Memory]] = {}

    async def authenticate(self, request: web.Request) -> Principal:
        """Return who is calling; raises 401 or `Unavailable`."""
        presented = parse_key(_credential(request))
        if presented is None:
            raise unauthorized(_REFUSED)
        memory = await self._recall(presented.prefix)
        key = memory.key
        is_right = presented.matches(key.key_hash if key else _NO_HASH)
        if key is None or not is_right or not self._is_valid(key):
            raise unauthorized(_REFUSED)
        if not memory.is_touched:
            memory.is_touched = True
            self._background.spawn("touch_key", self._touch(key.prefix))
        return Principal(key.owner, key.scopes, tier_named(key.tier), f"key:{key.prefix}")

    def _is_valid(self, key: ApiKey) -> bool:
        is_expired = key.expires_at is not None and key.expires_at <= self._now()
        return key.revoked_at is None and not is_expired

    async def _recall(self, prefix: str) -> _Memory:
        memory = self._known.get(prefix) or self._unknown.get(prefix)
        if memory is not None and memory.until > self._clock():
            return memory
        answer = self._lookups.get(prefix)
        if answer is None:
            answer = self._lookups[prefix] = get_running_loop().create_future()
            self._background.spawn("find_key", self._look_up(prefix, answer))
        # Whoever leaves must not take the answer away from the others.
        return await shield(answer)

    async def _look_up(self, prefix: str, answer: Future[_Memory]) -> None:
        try:
            answer.set_result(self._remember(prefix, await self._keys.find(prefix)))
        except Exception as error:  # noqa: BLE001 - it belongs to those who wait for the answer
            answer.set_exception(error)
        finally:
            del self._lookups[prefix]
            answer.cancel()

    def _remember(self, prefix: str, key: ApiKey | None) -> _Memory:
        place, other = self._known, self._unknown
        if key is None:
            place, other = other, place
        other.pop(prefix, None)
        place.pop(prefix, None)
        memory = _Memory(key, self._clock() + (_UNKNOWN_FOR if key is None else _KNOWN_FOR))
        place[prefix] = memory
        if len(place) > self._most_remembered:
            place.popitem(last=False)
        return memory

    async def _touch(self, prefix: str) -> None:
        try:
            await self._keys.touch(prefix)
        except Unavailable as error:
            LOST_MARKS.labels(write="touch_key").inc()
            _log.warning("key_use_not_noted", prefix=prefix, error=str(error))


AUTHENTICATOR: Final = web.AppKey("authenticator", Authenticator)


async def authorize(request: web.Request, scope: Scope) -> None:
    """Attach the caller to the request; raises 401, 403 or `Unavailable`."""
    principal = await request.config_dict[AUTHENTICATOR].authenticate(request)
    request[PRINCIPAL] = principal
    if scope not in principal.scopes:
        raise forbidden(scope)


def _credential(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    key = request.headers.get("X-API-Key")
    if key is None:
        raise unauthorized("send an API key as `Authorization: Bearer <key>` or `X-API-Key: <key>`")
    return key.strip()
