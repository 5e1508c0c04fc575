"""What must hold between settings for the protocol to work, and why."""

from collections.abc import Callable
from operator import le, lt
from typing import Final, NamedTuple

_DAY = 86_400
# How late a server may answer after a wait has run out, with the network in between.
_LATE_ANSWER = 0.5
_JOBS_PER_CONNECTION = 100


class Relation(NamedTuple):
    """What must hold between two settings for the protocol to work, and why."""

    bounded: str
    rule: str
    bound: str
    holds: Callable[[float, float], bool]
    reason: str

    def __str__(self) -> str:
        return f"{_variable(self.bounded)} {self.rule} {_variable(self.bound)}: {self.reason}"

    def check(self, settings: object) -> None:
        """Raise `ValueError`, naming both settings and their values, where it does not hold."""
        small, great = getattr(settings, self.bounded), getattr(settings, self.bound)
        if not self.holds(small, great):
            raise ValueError(
                f"{_variable(self.bounded)} ({small:g}) {self.rule} "
                f"{_variable(self.bound)} ({great:g}): {self.reason}"
            )


def _variable(field: str) -> str:
    return f"USA_{field.upper()}"


RELATIONS: Final = (
    Relation(
        "renew_every", "must be less than a third of", "lease",
        lambda small, great: small < great / 3,
        "two lost renewals must not lose a job",
    ),
    Relation(
        "block", f"must be at least {_LATE_ANSWER:g} s less than", "socket_timeout",
        lambda small, great: small + _LATE_ANSWER <= great,
        "an idle queue must not look like an outage",
    ),
    Relation(
        "block", "must be less than", "shutdown_grace", lt,
        "a wait for new entries must end before a shutdown does",
    ),
    Relation(
        "reclaim_interval", "must be less than", "lease", lt,
        "the jobs of a dead worker must not wait for as long again",
    ),
    Relation(
        "lease", "must be less than", "job_deadline", lt,
        "a job whose worker died must be taken over before it fails",
    ),
    Relation(
        "poll_interval", "must not be more than", "job_deadline", le,
        "a job that waits for its entry must get it before it fails",
    ),
    Relation(
        "reconcile_interval", "must not be more than", "job_deadline", le,
        "what was lost must be found before the job fails",
    ),
    Relation(
        "event_retention", "must not be more seconds than there are in", "retention_days",
        lambda small, great: small <= great * _DAY,
        "events tell the story, and must not be kept for longer",
    ),
    Relation(
        "retention_days", "must not be more than", "ledger_retention_days", le,
        "what a job has cost is read from its ledger",
    ),
    Relation(
        "concurrency", f"must not be more than {_JOBS_PER_CONNECTION} times",
        "postgres_pool", lambda small, great: small <= great * _JOBS_PER_CONNECTION,
        "jobs that end together must not wait for a connection until they give up",
    ),
)  # fmt: skip
