"""Builds what recognises JWTs, where the settings trust an issuer."""

from collections.abc import Collection

from service.api.auth import Recognise
from service.api.user_limits import UserLimits
from service.bootstrap.extras import needing_extra
from service.ports.access import UserLimitStore
from service.settings import Settings
from service.supervision import Background


def token_recogniser(
    settings: Settings, background: Background, limits: UserLimitStore
) -> Recognise | None:
    """Return it, or None without an issuer; raises `MissingExtra`."""
    if settings.oidc_issuer is None or settings.oidc_audience is None:
        return None
    with needing_extra("jwt", "USA_OIDC_ISSUER"):
        import cryptography  # noqa: F401, PLC0415 - PyJWT is no use without it

        from service.api.jwt_bearer import TokenReader, TokenRules  # noqa: PLC0415
        from service.api.oidc import IssuerKeys  # noqa: PLC0415
    rules = TokenRules(
        issuer=settings.oidc_issuer,
        audience=settings.oidc_audience,
        algorithms=settings.oidc_algorithms,
        leeway=settings.oidc_leeway,
        user_claim=settings.oidc_user_claim,
        tenant_claim=settings.oidc_tenant_claim,
        scopes_claim=settings.oidc_scopes_claim,
        scopes=frozenset(settings.oidc_scopes),
        tier_claim=settings.oidc_tier_claim,
    )
    keys = IssuerKeys(settings.oidc_issuer, settings.oidc_algorithms, background)
    return TokenReader(rules, keys, UserLimits(limits, background)).recognise


async def issuer_keys(settings: Settings) -> Collection[tuple[str, str]]:
    """Ask the issuer for its usable keys, by id and algorithm; none without an issuer.

    Raises `MissingExtra` and `UnusableIssuer`.
    """
    if settings.oidc_issuer is None:
        return ()
    with needing_extra("jwt", "USA_OIDC_ISSUER"):
        import cryptography  # noqa: F401, PLC0415 - PyJWT is no use without it

        from service.api.oidc import published_keys  # noqa: PLC0415
    return (await published_keys(settings.oidc_issuer, settings.oidc_algorithms)).keys()
