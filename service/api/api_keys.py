"""Recognises API keys, with a short memory of them."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

from service.api.auth import Principal, refused
from service.api.single_flight import SingleFlight
from service.domain.api_keys import parse_key
from service.domain.errors import Unavailable
from service.domain.tiers import tier_named
from service.ports.access import ApiKey, ApiKeyStore
from service.supervision import Background
from service.telemetry.logs import get_log
from service.telemetry.metrics import LOST_MARKS

_log = get_log(__name__)

_KNOWN_FOR = 30.0
_UNKNOWN_FOR = 5.0
_NO_HASH = hashlib.sha256(b"").digest()


@dataclass(slots=True)
class _Memory:
    """What a lookup found, until when it may be used, and whether the use was noted."""

    key: ApiKey | None
    until: float
    is_touched: bool = False


class KeyRing:
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
        self._look_up = SingleFlight("find_key", self._find, background)

    async def recognise(self, text: str) -> Principal:
        """Return whose key this is; an unknown one takes as long as a wrong secret.

        Raises 401 or `Unavailable`.
        """
        presented = parse_key(text)
        if presented is None:
            raise refused()
        memory = await self._recall(presented.prefix)
        key = memory.key
        is_right = presented.matches(key.key_hash if key else _NO_HASH)
        if key is None or not is_right or not self._is_valid(key):
            raise refused()
        if not memory.is_touched:
            memory.is_touched = True
            self._background.spawn("touch_key", self._touch(key.prefix))
        tier = tier_named(key.tier).with_overrides(key.overrides)
        return Principal(key.owner, key.scopes, tier, f"key:{key.prefix}")

    def _is_valid(self, key: ApiKey) -> bool:
        is_expired = key.expires_at is not None and key.expires_at <= self._now()
        return key.revoked_at is None and not is_expired

    async def _recall(self, prefix: str) -> _Memory:
        memory = self._known.get(prefix) or self._unknown.get(prefix)
        if memory is not None and memory.until > self._clock():
            return memory
        return await self._look_up(prefix)

    async def _find(self, prefix: str) -> _Memory:
        key = await self._keys.find(prefix)
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
