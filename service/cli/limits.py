"""Limits of single users: shown, set and cleared in the database."""

import re
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from service.cli.options import AsJson
from service.cli.output import note, print_json, show, table
from service.domain.job import Owner
from service.domain.tiers import LIMITS, UNLIMITED, Tier

if TYPE_CHECKING:
    from service.ports.access import UserLimits

app = typer.Typer(
    help="Show, set and clear the limits of single users, in the database of DATABASE_URL, or of"
    " `usa up` here.",
    no_args_is_help=True,
)

_NONE, _TIER = "none", "tier"
_MOST = 1_000_000_000_000
_DIGITS = re.compile(r"\d{1,13}", re.ASCII)
_NAMES = tuple(field.name for field in fields(Tier) if field.name in LIMITS)
# Nothing at all may be allowed per day or at once; less than one of these makes no sense.
_AT_LEAST_ONE = frozenset(
    {"requests_per_minute", "reads_per_minute", "story_bytes", "iterations_per_job"}
)

Tenant: TypeAlias = Annotated[str, typer.Option(help="The user's organisation.")]
User: TypeAlias = Annotated[str, typer.Option(help="The person or program.")]
Limit: TypeAlias = Annotated[str | None, typer.Option(metavar="N|none|tier")]


@app.command("show")
def show_limits(
    tenant: Annotated[str | None, typer.Option(help="Only users of it.")] = None,
    user: Annotated[str | None, typer.Option(help="Only users of this name.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the users whose limits differ from their tier's; `-` is the tier's."""
    from service.bootstrap import list_user_limits
    from service.cli.database import on_database

    found = on_database(list_user_limits, tenant, user)
    if as_json:
        print_json({"limits": [_document(each) for each in found]})
    elif not found:
        note("all of them have the limits of their tiers")
    else:
        show(_table(found))


@app.command("set")
def set_limits(  # noqa: PLR0913 - one option for each limit
    tenant: Tenant,
    user: User,
    *,
    requests_per_day: Limit = None,
    tokens_per_day: Limit = None,
    requests_per_minute: Limit = None,
    story_bytes: Limit = None,
    iterations_per_job: Limit = None,
    concurrent_jobs: Limit = None,
    reads_per_minute: Limit = None,
    open_streams: Limit = None,
    open_waits: Limit = None,
    as_json: AsJson = False,
) -> None:
    """Set limits of a user, within half a minute; others stay as they are.

    `none` is as far as any tier goes, `tier` what the user's tier says.
    """
    from service.bootstrap import change_user_limits
    from service.cli.database import on_database

    given = {
        "requests_per_day": requests_per_day,
        "tokens_per_day": tokens_per_day,
        "requests_per_minute": requests_per_minute,
        "story_bytes": story_bytes,
        "iterations_per_job": iterations_per_job,
        "concurrent_jobs": concurrent_jobs,
        "reads_per_minute": reads_per_minute,
        "open_streams": open_streams,
        "open_waits": open_waits,
    }
    wanted = {name: text for name, text in given.items() if text is not None}
    if not wanted:
        raise typer.BadParameter(f"name a limit, such as {_option(_NAMES[0])} 100")
    tiers = {name for name, text in wanted.items() if text == _TIER}
    values = {name: _value(name, text) for name, text in wanted.items() if text != _TIER}
    changed = on_database(change_user_limits, Owner(tenant, user), values, tiers)
    print_json(_document(changed)) if as_json else show(_table([changed]))


@app.command("clear")
def clear(tenant: Tenant, user: User, as_json: AsJson = False) -> None:
    """Give a user the limits of the tier again."""
    from service.bootstrap import clear_user_limits
    from service.cli.database import on_database

    differed = on_database(clear_user_limits, Owner(tenant, user))
    if as_json:
        print_json({"tenantId": tenant, "userId": user, "cleared": differed})
    elif differed:
        show(f"{user} of {tenant} has the limits of the tier again")
    else:
        note(f"{user} of {tenant} had them already")


def _value(name: str, text: str) -> int | None:
    if text == _NONE:
        return None
    least, most = int(name in _AT_LEAST_ONE), getattr(UNLIMITED, name) or _MOST
    if not (_DIGITS.fullmatch(text) and least <= int(text) <= most):
        raise typer.BadParameter(
            f"{_option(name)}: give a number from {least} to {most}, {_NONE} or {_TIER}"
        )
    return int(text)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _camel(name: str) -> str:
    first, *more = name.split("_")
    return first + "".join(map(str.capitalize, more))


def _document(limits: "UserLimits") -> dict[str, Any]:
    return {
        "tenantId": limits.owner.tenant_id,
        "userId": limits.owner.user_id,
        "overrides": {_camel(name): limit for name, limit in limits.overrides.items()},
        "updatedAt": limits.updated_at,
    }


def _table(found: list["UserLimits"]) -> str:
    heading = ("TENANT", "USER", *(name.replace("_", " ").upper() for name in _NAMES))
    return table([heading, *map(_row, found)])


def _row(limits: "UserLimits") -> tuple[str, ...]:
    return (limits.owner.tenant_id, limits.owner.user_id, *(_cell(limits, n) for n in _NAMES))


def _cell(limits: "UserLimits", name: str) -> str:
    if name not in limits.overrides:
        return "-"
    value = limits.overrides[name]
    return _NONE if value is None else f"{value:,}"
