"""The record of who did what or tried to, apart from what the log level hides."""

from enum import StrEnum
from typing import Final

from service.domain.job import Owner
from service.telemetry.logs import AUDIT_LOG, get_log

_log = get_log(AUDIT_LOG)

COMMAND_LINE: Final = "command line"


class Outcome(StrEnum):
    """What became of it; after `failed` it is not known whether it was done."""

    ALLOWED = "allowed"
    DENIED = "denied"
    FAILED = "failed"


def audit(
    action: str, outcome: Outcome, *, caller: str | None, owner: Owner | None, **about: object
) -> None:
    """Write one record; `about` says to what it was done, and never what a story is about."""
    _log.info(
        "audit",
        action=action,
        outcome=outcome.value,
        caller=caller,
        tenant=owner.tenant_id if owner else None,
        user=owner.user_id if owner else None,
        **about,
    )
