"""API keys: made, listed and revoked in the database."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.exit_codes import ExitCode
from service.cli.failures import Failure
from service.cli.options import AsJson
from service.cli.output import note, print_json, show, table
from service.domain.api_keys import Scope
from service.domain.job import Owner, is_name
from service.domain.tiers import FREE, TIERS

if TYPE_CHECKING:
    from service.ports.access import ApiKey

app = typer.Typer(
    help="Make, list and revoke API keys in the database of DATABASE_URL, or of `usa up` here.",
    no_args_is_help=True,
)

_USUAL_SCOPES = [Scope.JOBS_READ, Scope.JOBS_WRITE, Scope.USAGE_READ]
_DAY = 86_400.0


def _check_tier(name: str) -> str:
    if name not in TIERS:
        raise typer.BadParameter(f"it is one of {', '.join(TIERS)}")
    return name


def _check_name(name: str) -> str:
    if not is_name(name):
        raise typer.BadParameter("give 1 to 200 characters that can be shown")
    return name


@app.command("create")
def create(
    tenant: Annotated[
        str, typer.Option(callback=_check_name, help="Whose jobs it reaches: the organisation.")
    ],
    user: Annotated[
        str,
        typer.Option(callback=_check_name, help="Whose jobs it reaches: the person or program."),
    ],
    name: Annotated[str, typer.Option(help="What to know it by later.")] = "",
    scope: Annotated[list[Scope] | None, typer.Option(help="What it may do; repeatable.")] = None,
    tier: Annotated[
        str, typer.Option(callback=_check_tier, help=f"Its limits: {', '.join(TIERS)}.")
    ] = FREE.name,
    days: Annotated[
        float | None, typer.Option(min=0.001, max=36_500, help="How long it is valid.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, once: nobody can read it again."""
    from service.bootstrap import create_api_key
    from service.cli.database import on_database

    text, key = on_database(
        create_api_key,
        Owner(tenant, user),
        name=name,
        scopes=frozenset(scope or _USUAL_SCOPES),
        tier=tier,
        valid_for=None if days is None else days * _DAY,
    )
    if as_json:
        print_json({"key": text, **_document(key)})
        return
    show(text)
    note("keep it now: it is stored as a hash and cannot be shown again")


@app.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """List all keys, newest first, without their secrets."""
    from service.bootstrap import list_api_keys
    from service.cli.database import on_database

    keys = on_database(list_api_keys)
    if as_json:
        print_json({"keys": [_document(key) for key in keys]})
    elif not keys:
        note("no keys")
    else:
        heading = ("PREFIX", "TENANT", "USER", "TIER", "STATE", "LAST USED", "NAME", "SCOPES")
        show(table([heading, *map(_row, keys)]))


@app.command("revoke")
def revoke(
    prefix: Annotated[str, typer.Argument(metavar="PREFIX", help="The 8 characters after usa_.")],
    as_json: AsJson = False,
) -> None:
    """Revoke a key; within 60 seconds nobody can use it any more."""
    from service.bootstrap import revoke_api_key
    from service.cli.database import on_database

    # Whoever pastes a whole key means the part of it that is not secret.
    public = prefix.removeprefix("usa_").partition("_")[0]
    if not on_database(revoke_api_key, public):
        raise Failure(f"there is no key {public}; `usa keys list` lists them", ExitCode.REFUSED)
    if as_json:
        print_json({"prefix": public, "revoked": True})
    else:
        show(f"{public} is revoked")


def _document(key: "ApiKey") -> dict[str, Any]:
    return {
        "prefix": key.prefix,
        "tenantId": key.owner.tenant_id,
        "userId": key.owner.user_id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "tier": key.tier,
        "createdAt": key.created_at,
        "expiresAt": key.expires_at,
        "revokedAt": key.revoked_at,
        "lastUsedAt": key.last_used_at,
    }


def _row(key: "ApiKey") -> tuple[str, ...]:
    scopes = ",".join(sorted(key.scopes))
    state = key_state(key, datetime.now(UTC))
    used = _day(key.last_used_at)
    return (
        key.prefix,
        key.owner.tenant_id,
        key.owner.user_id,
        key.tier,
        state,
        used,
        key.name,
        scopes,
    )


def key_state(key: "ApiKey", now: datetime) -> str:
    """Say whether a key can be used, and until when."""
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is None:
        return "valid"
    return "expired" if key.expires_at <= now else f"until {_day(key.expires_at)}"


def _day(moment: datetime | None) -> str:
    return "never" if moment is None else moment.date().isoformat()
