"""Recognises JWTs of one issuer."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import jwt
from jwt.exceptions import InvalidTokenError, PyJWTError

from service.api.auth import Principal, refused
from service.api.oidc import IssuerKeys
from service.api.user_limits import UserLimits
from service.domain.api_keys import Scope
from service.domain.job import Owner, is_name
from service.domain.tiers import FREE, UNLIMITED, Tier, tier_named
from service.telemetry.logs import get_log

_log = get_log(__name__)

# Access and identity tokens; others of the same issuer, as for logging out, open nothing here.
_TYPES: Final = frozenset({"jwt", "at+jwt"})
_TIMES: Final = ("exp", "nbf", "iat")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """What a token must say to be taken, and which of its claims say who its bearer is.

    `leeway` is in seconds, and is what clocks may differ by; a token gets none but these `scopes`.
    """

    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    leeway: float
    user_claim: str
    tenant_claim: str
    scopes_claim: str
    scopes: frozenset[Scope]
    tier_claim: str


class TokenReader:
    """Recognises tokens that the issuer has signed for this service and that are valid now."""

    def __init__(self, rules: TokenRules, keys: IssuerKeys, limits: UserLimits) -> None:
        self._rules = rules
        self._keys = keys
        self._limits = limits

    async def recognise(self, token: str) -> Principal:
        """Return whose token this is; raises 401, or `Unavailable` if its key cannot be had."""
        try:
            bearer = self._principal(await self._claims(token))
        except PyJWTError as error:
            _log.info("token_refused", reason=type(error).__name__, detail=str(error)[:200])
            raise refused() from None
        overrides = await self._limits.of(bearer.owner)
        return replace(bearer, tier=bearer.tier.with_overrides(overrides))

    async def _claims(self, token: str) -> dict[str, Any]:
        if not token.isascii():
            raise InvalidTokenError("it is no token")
        head = jwt.get_unverified_header(token)
        algorithm, key_id = head.get("alg"), head.get("kid")
        if algorithm not in self._rules.algorithms:
            raise InvalidTokenError("its algorithm is not allowed")
        if not isinstance(key_id, str):
            raise InvalidTokenError("it does not name its key")
        if str(head.get("typ", "jwt")).lower().removeprefix("application/") not in _TYPES:
            raise InvalidTokenError("it is of another type")
        key = await self._keys.find(key_id, algorithm)
        if key is None:
            raise InvalidTokenError("its key is unknown")
        claims = jwt.decode(
            token,
            key,
            # The key's own algorithm decides, whatever the token says.
            algorithms=[key.algorithm_name],
            audience=self._rules.audience,
            issuer=self._rules.issuer,
            leeway=self._rules.leeway,
            options={"require": ["exp"], "enforce_minimum_key_length": True},
        )
        for name in _TIMES:
            if not _is_time(claims.get(name, 0)):
                raise InvalidTokenError(f"{name} is no time")
        return claims

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        rules = self._rules
        owner = Owner(_name_in(claims, rules.tenant_claim), _name_in(claims, rules.user_claim))
        # A claim that is chosen for the user may be unique within its tenant only.
        who = "\n".join((rules.issuer, owner.tenant_id, owner.user_id)).encode()
        return Principal(
            owner,
            frozenset(rules.scopes & _words_in(claims.get(rules.scopes_claim))),
            _tier_in(claims.get(rules.tier_claim)),
            f"jwt:{hashlib.sha256(who).hexdigest()[:12]}",
        )


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _name_in(claims: Mapping[str, Any], claim: str) -> str:
    name = claims.get(claim)
    if not isinstance(name, str) or not is_name(name):
        raise InvalidTokenError(f"{claim} is missing, or is no name")
    return name


def _words_in(value: object) -> frozenset[str]:
    """Read scopes as OAuth writes them, or as a list."""
    given = value.split(" ") if isinstance(value, str) else value
    return frozenset(map(str, given)) if isinstance(given, list) else frozenset()


def _tier_in(value: object) -> Tier:
    """Read the tier; being without limits is for keys only, which are made by whoever runs this."""
    tier = tier_named(value) if isinstance(value, str) else FREE
    return FREE if tier is UNLIMITED else tier
