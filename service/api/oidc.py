"""The signing keys of an OpenID Connect issuer, fetched rarely and kept while it is away."""

import asyncio
import json
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any, Final

from aiohttp import ClientError, ClientSession
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from service.api.single_flight import SingleFlight
from service.domain.errors import ServiceError, Unavailable
from service.domain.web_addresses import cannot_be_overheard
from service.supervision import Background
from service.telemetry.logs import get_log

_log = get_log(__name__)

_DISCOVERY = "/.well-known/openid-configuration"
# Both documents together, so that a caller is told within three seconds that the issuer is away.
_ANSWERED_WITHIN = 2.5
_LARGEST_DOCUMENT = 256 * 1024
_MOST_KEYS = 100
_FRESH_FOR = 300.0
# Between two looks for a key that nobody knows: whoever makes ids up causes no more than that.
_LOOK_AGAIN_AFTER = 10.0
_TRY_AGAIN_AFTER = 5.0
# A key that its issuer has withdrawn must not live for ever because the issuer cannot be reached.
_KEPT_FOR = 86_400.0
# What a public key is made of; a private part published by mistake is not even read.
_PUBLIC: Final = ("kty", "crv", "n", "e", "x", "y")

SigningKeys = Mapping[tuple[str, str], PyJWK]


class UnusableIssuer(ServiceError):
    """The issuer does not answer, or with something that cannot be trusted or read."""


class IssuerKeys:
    """Finds keys by id and algorithm, fetching all of them when they are old or one is missing.

    A withdrawn key is refused after five minutes, a new one is found within ten seconds. While
    the issuer is away, known keys stay usable for a day, and only whoever finds that out waits.
    """

    def __init__(
        self,
        issuer: str,
        algorithms: Collection[str],
        background: Background,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._issuer = issuer
        self._algorithms = algorithms
        self._background = background
        self._clock = clock
        self._keys: SigningKeys = {}
        self._fetched = self._failed = float("-inf")
        self._refresh = SingleFlight("issuer_keys", self._fetch, background)
        self._looking: asyncio.Task[None] | None = None

    async def find(self, key_id: str, algorithm: str) -> PyJWK | None:
        """Return the key; None if the issuer has none such, `Unavailable` if nobody can tell."""
        key, age = self._keys.get((key_id, algorithm)), self._clock() - self._fetched
        if age < (_FRESH_FOR if key else _LOOK_AGAIN_AFTER):
            return key
        if age > _KEPT_FOR:
            key = None
        if key is not None and self._failed > self._fetched:
            self._look_meanwhile()
            return key
        try:
            await self._refresh(self._issuer)
        except Unavailable:
            if key is None:
                raise
            return key
        return self._keys.get((key_id, algorithm))

    def _look_meanwhile(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = self._background.spawn("issuer_keys", self._look())

    async def _look(self) -> None:
        with suppress(Unavailable):
            await self._refresh(self._issuer)

    async def _fetch(self, issuer: str) -> None:
        if self._clock() - self._failed < _TRY_AGAIN_AFTER:
            raise Unavailable("the token issuer", retry_after=_TRY_AGAIN_AFTER)
        try:
            self._keys = await published_keys(issuer, self._algorithms)
        except UnusableIssuer as error:
            self._failed = self._clock()
            _log.warning("issuer_keys_not_fetched", error=str(error))
            raise Unavailable("the token issuer", retry_after=_TRY_AGAIN_AFTER) from error
        self._fetched = self._clock()


async def published_keys(issuer: str, algorithms: Collection[str]) -> SigningKeys:
    """Ask the issuer where its keys are, and read them; raises `UnusableIssuer`."""
    try:
        return signing_keys(await _key_set(issuer), algorithms)
    except (ClientError, TimeoutError, ValueError) as error:
        raise UnusableIssuer(f"no answer that can be read ({error!r})") from error


async def _key_set(issuer: str) -> list[Any]:
    async with asyncio.timeout(_ANSWERED_WITHIN), ClientSession() as session:
        configuration = await _read(session, issuer.rstrip("/") + _DISCOVERY)
        if configuration.get("issuer") != issuer:
            raise UnusableIssuer("its configuration names another issuer")
        address = configuration.get("jwks_uri")
        if not isinstance(address, str) or not cannot_be_overheard(address):
            raise UnusableIssuer("its configuration names no address of keys that is safe")
        keys = (await _read(session, address)).get("keys")
    if not isinstance(keys, list) or len(keys) > _MOST_KEYS:
        raise UnusableIssuer("its keys are no list, or too many")
    return keys


async def _read(session: ClientSession, address: str) -> dict[str, Any]:
    # A redirect could lead anywhere, also to where the first address may not.
    # Unpacked, a small answer could be a huge one.
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    async with session.get(address, allow_redirects=False, headers=headers) as response:
        if response.status != 200:
            raise UnusableIssuer(f"{address} answered {response.status}")
        body = bytearray()
        async for piece in response.content.iter_any():
            body += piece
            if len(body) > _LARGEST_DOCUMENT:
                raise UnusableIssuer(f"{address} answered more than {_LARGEST_DOCUMENT} bytes")
    try:
        document = json.loads(body)
    except RecursionError:
        raise UnusableIssuer(f"{address} answered something too deep") from None
    if not isinstance(document, dict):
        raise UnusableIssuer(f"{address} answered no object")
    return document


def signing_keys(published: list[Any], algorithms: Collection[str]) -> SigningKeys:
    """Read a key set: each key under its id and each algorithm that it may be used with."""
    found: dict[tuple[str, str], PyJWK] = {}
    for each in published:
        if not isinstance(each, dict) or each.get("use", "sig") != "sig":
            continue
        key_id, own = each.get("kid"), each.get("alg")
        for algorithm in algorithms:
            key = _key(each, algorithm) if own in {None, algorithm} else None
            if key is not None and isinstance(key_id, str):
                found[key_id, algorithm] = key
    return found


def _key(published: Mapping[str, Any], algorithm: str) -> PyJWK | None:
    parts = {name: published[name] for name in _PUBLIC if isinstance(published.get(name), str)}
    try:
        return PyJWK(parts, algorithm)
    except PyJWTError:  # of another type, or broken: others may do
        return None
