"""Who may do what: one row for each operation that needs a scope, one column for each caller."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, Final

from service.domain.api_keys import RANDOM_BYTES, Scope, format_key
from service.domain.job import Owner
from service.postgres.api_keys import PostgresApiKeyStore
from tests.fixtures.api import ALICE, BOB, MALLORY, STORY
from tests.fixtures.oidc import Issuer, pem, rsa_key, signed_with_secret, unsigned

# Whoever has them all still sees nobody else's jobs.
OWN_SCOPES: Final = frozenset(Scope) - {Scope.JOBS_TENANT}


class Answer(Enum):
    """What a caller is answered, whatever the operation."""

    ALLOWED = "as the row says for its owner"
    HIDDEN = "as the row says for strangers"
    REFUSED = 401
    FORBIDDEN = 403


COLUMNS: Final[Mapping[str, Answer]] = {
    "no key": Answer.REFUSED,
    "malformed": Answer.REFUSED,
    "unknown": Answer.REFUSED,
    "wrong secret": Answer.REFUSED,
    "revoked": Answer.REFUSED,
    "expired": Answer.REFUSED,
    "scope missing": Answer.FORBIDDEN,
    "jwt alg none": Answer.REFUSED,
    "jwt public key as secret": Answer.REFUSED,
    "jwt of another key": Answer.REFUSED,
    "jwt of unknown key": Answer.REFUSED,
    "jwt for another service": Answer.REFUSED,
    "jwt of another issuer": Answer.REFUSED,
    "jwt expired": Answer.REFUSED,
    "jwt not yet valid": Answer.REFUSED,
    "jwt without tenant": Answer.REFUSED,
    "jwt scope missing": Answer.FORBIDDEN,
    "other user": Answer.HIDDEN,
    "other tenant": Answer.HIDDEN,
    "other tenant's whole": Answer.HIDDEN,
    "jwt of other user": Answer.HIDDEN,
    "jwt of other tenant": Answer.HIDDEN,
    "owner": Answer.ALLOWED,
    "own tenant's whole": Answer.ALLOWED,
    "jwt of owner": Answer.ALLOWED,
}


@dataclass(frozen=True, slots=True)
class Row:
    """What an operation answers to whom it knows; `strangers` do not own the job in its path.

    `job` is the status that the job must have, if there is one in the path.
    """

    owner: int
    strangers: int
    job: str | None = None
    body: Mapping[str, Any] | None = None
    query: str = ""
    path: str = ""

    def expected(self, column: str) -> int:
        """Return the status that this caller must be answered."""
        match COLUMNS[column]:
            case Answer.ALLOWED:
                return self.owner
            case Answer.HIDDEN:
                return self.strangers
            case refusal:
                status: int = refusal.value
                return status


ROWS: Final[Mapping[str, Row]] = {
    "create_job": Row(202, 202, body={"story": STORY, "agent": "noop"}),
    "list_jobs": Row(200, 200),
    "get_job": Row(200, 404, job="queued"),
    "cancel_job": Row(200, 404, job="queued"),
    "redrive_job": Row(202, 404, job="failed"),
    "stream_job": Row(200, 404, job="queued"),
    "list_iterations": Row(200, 200),
    "get_iteration": Row(200, 200, path="security"),
    "preview_workflow": Row(200, 200, query="?productType=web"),
    "get_usage": Row(200, 200),
    "list_daily_usage": Row(200, 200),
    "get_quota": Row(200, 200),
    "get_queue": Row(200, 200),
    "pause_queue": Row(200, 200),
    "resume_queue": Row(200, 200),
    "list_dead_letters": Row(200, 200),
    "redrive_dead_letters": Row(202, 202, body={"code": "NOBODY_FAILED_WITH_IT", "limit": 1}),
}


async def credentials(
    store: PostgresApiKeyStore, issuer: Issuer, scope: Scope
) -> Mapping[str, str | None]:
    """Make what each caller sends as a bearer to an operation that needs this scope."""

    async def key(owner: Owner, *scopes: Scope, valid_for: float | None = None) -> str:
        made = format_key(secrets.token_bytes(RANDOM_BYTES))
        await store.insert(
            made.prefix,
            made.key_hash,
            owner,
            name="test",
            scopes=scopes,
            tier="unlimited",
            valid_for=valid_for,
        )
        return made.text

    async def revoked() -> str:
        text = await key(ALICE, *Scope)
        assert await store.revoke(text.split("_")[1])
        return text

    owner = await key(ALICE, *OWN_SCOPES)
    return {
        "no key": None,
        "malformed": "usa_not-a-key",
        "unknown": "usa_01234567_made-up",
        "wrong secret": owner[:-1] + ("A" if owner[-1] != "A" else "B"),
        "revoked": await revoked(),
        "expired": await key(ALICE, *Scope, valid_for=-1.0),
        "scope missing": await key(ALICE, *(frozenset(Scope) - {scope})),
        "other user": await key(BOB, *OWN_SCOPES),
        "other tenant": await key(MALLORY, *OWN_SCOPES),
        "other tenant's whole": await key(MALLORY, *Scope),
        "owner": owner,
        "own tenant's whole": await key(BOB, *Scope),
        **_tokens(issuer, scope),
    }


def _tokens(issuer: Issuer, scope: Scope) -> Mapping[str, str]:
    said: dict[str, Any] = {"scope": " ".join(OWN_SCOPES), "tier": "enterprise"}
    claims, head = issuer.claims(**said), {"kid": "first"}
    public = pem(issuer.keys["first"])
    return {
        "jwt alg none": unsigned({**head, "alg": "none"}, claims) + ".",
        "jwt public key as secret": signed_with_secret(public, {**head, "alg": "HS256"}, claims),
        "jwt of another key": issuer.token(key=rsa_key(9), **said),
        "jwt of unknown key": issuer.token(head={"kid": "unknown"}, **said),
        "jwt for another service": issuer.token(aud="another", **said),
        "jwt of another issuer": issuer.token(iss="https://issuer.example", **said),
        "jwt expired": issuer.token(exp=timedelta(minutes=-1), **said),
        "jwt not yet valid": issuer.token(nbf=timedelta(minutes=1), **said),
        "jwt without tenant": issuer.token(tenant=None, **said),
        "jwt scope missing": issuer.token(scope=" ".join(frozenset(Scope) - {scope})),
        "jwt of other user": issuer.token(sub="bob", **said),
        "jwt of other tenant": issuer.token(tenant="rival", **said),
        "jwt of owner": issuer.token(**said),
    }


def drawn(statuses: Mapping[str, Mapping[str, int]]) -> str:
    """Draw the statuses by operation and caller, callers downwards."""
    operations = list(statuses)
    widths = [max(len(name), 3) for name in operations]
    first = max(map(len, COLUMNS))
    heading = "  ".join(name.rjust(width) for name, width in zip(operations, widths, strict=True))
    lines = [f"{'':{first}}  {heading}"]
    for column in COLUMNS:
        cells = [
            str(statuses[operation].get(column, "")).rjust(width)
            for operation, width in zip(operations, widths, strict=True)
        ]
        lines.append(f"{column:{first}}  {'  '.join(cells)}")
    return "\n".join(lines)
