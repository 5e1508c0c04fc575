"""Where processes are killed, frozen and cut off: every commit, publish and acknowledgement."""

from typing import Final

from tests.fixtures.failpoints import Failpoint

_ANYWHERE = ("before", "during", "after")
_FREEZABLE = ("before", "after")


def deadly(*edges: str, hit: int = 1) -> list[Failpoint]:
    """Killed at every place of these edges, and frozen at two of them."""
    kills = [Failpoint(f"{edge}.{place}", "kill", hit) for edge in edges for place in _ANYWHERE]
    stops = [Failpoint(f"{edge}.{place}", "stop", hit) for edge in edges for place in _FREEZABLE]
    return [*kills, *stops]


def heard(edge: str) -> list[Failpoint]:
    """Killed and frozen between the answer of a read and what it is for."""
    return [Failpoint(f"{edge}.after", action) for action in ("kill", "stop")]


def survivable(edge: str, *, first: int = 1, every: int = 2) -> list[Failpoint]:
    """One after the other: never sent, answer lost, slow, cut off in the middle."""
    actions = (("before", "raise"), ("after", "lose"), ("before", "delay"), ("during", "cut"))
    return [
        Failpoint(f"{edge}.{place}", action, first + number * every)
        for number, (place, action) in enumerate(actions)
    ]


STARTING: Final = [
    *heard("redis.xreadgroup"),
    *deadly("postgres.claim_jobs"),
    *deadly("postgres.open_calls_if_current"),
]
PAYING: Final = [
    *deadly("postgres.close_calls", hit=2),
    *deadly("redis.append_events", hit=3),
    *heard("postgres.sum_ledger"),
]
RENEWING: Final = [
    *deadly("postgres.renew_leases"),
    *deadly("redis.renew_if_owner"),
]
ENDING: Final = [
    *deadly("postgres.record_if_current"),
    *deadly("postgres.clear_event_pending"),
    *deadly("redis.ack_if_owner"),
]
RETRYING: Final = [
    *deadly("postgres.close_calls"),
    *deadly("postgres.record_if_current"),
    *deadly("redis.ack_if_owner"),
]
TAKING_OVER: Final = [
    *heard("redis.xautoclaim"),
    *heard("postgres.claim_jobs"),
    *deadly("postgres.abandon_calls"),
    *heard("postgres.read_checkpoints"),
    *deadly("redis.release_if_owner"),
    Failpoint("redis.release_if_owner.before", "raise"),
]
HANDING_BACK: Final = [
    *deadly("postgres.record_if_current"),
    *deadly("redis.xadd"),
    *deadly("postgres.mark_entries"),
    *deadly("redis.ack_if_owner"),
    *deadly("redis.remove_consumer_if_idle"),
]
ACCEPTING: Final = [
    *deadly("postgres.accept_jobs"),
    *deadly("redis.xadd"),
    *deadly("postgres.mark_entries"),
]
CANCELLING: Final = [
    *deadly("postgres.cancel_owned_job"),
    *deadly("redis.publish"),
    *deadly("redis.append_events"),
    *deadly("postgres.clear_event_pending"),
]
REDRIVING: Final = [
    *deadly("postgres.redrive_failed_jobs"),
    *deadly("redis.redrive_events"),
    *deadly("redis.xadd"),
    *deadly("postgres.mark_entries"),
]
PURGING: Final = [
    *deadly("redis.xtrim"),
    *deadly("postgres.purge_owned_job"),
    *deadly("redis.seal_events"),
]

# In the order in which a round passes them, so that each finds its step still to be done.
REPAIRING: Final = [
    Failpoint(f"{edge}.{place}", "kill")
    for edge in (
        "redis.xgroup_create",
        "redis.set",
        "postgres.fail_overdue",
        "postgres.abandon_calls",
        "redis.append_events",
        "postgres.clear_event_pending",
        "postgres.recover_if_expired",
        "postgres.unmark_entries",
        "postgres.take_relay_batch",
        "redis.xadd",
        "postgres.mark_entries",
    )
    for place in ("before", "after")
]
RELAYING: Final = [
    Failpoint(point, "stop")
    for point in (
        "postgres.take_relay_batch.after",
        "redis.xadd.after",
        "postgres.mark_entries.before",
        "postgres.mark_entries.after",
    )
]
WORKING: Final = [
    *(
        failpoint
        for edge in (
            "postgres.claim_jobs",
            "postgres.read_checkpoints",
            "postgres.open_calls_if_current",
            "postgres.close_calls",
            "postgres.sum_ledger",
            "postgres.record_if_current",
            "postgres.clear_event_pending",
            "postgres.take_relay_batch",
            "postgres.mark_entries",
            "postgres.renew_leases",
            "redis.xreadgroup",
            "redis.xadd",
            "redis.append_events",
            "redis.renew_if_owner",
            "redis.ack_if_owner",
        )
        for failpoint in survivable(edge, first=2)
    ),
    Failpoint("redis.xautoclaim.before", "raise"),
    Failpoint("postgres.fail_overdue.before", "raise"),
    # Asked after a nudge, and again when the attempt steps aside.
    Failpoint("postgres.read_fences.before", "raise", times=2),
]
LEAVING: Final = [
    # Repeated until it is heard of, so each repetition meets the next.
    Failpoint("postgres.record_if_current.before", "raise"),
    Failpoint("postgres.record_if_current.during", "cut"),
    Failpoint("postgres.record_if_current.after", "lose"),
    # Once each, and many together: there may be only two passes.
    Failpoint("redis.xadd.before", "raise"),
    Failpoint("redis.xadd.after", "lose"),
    Failpoint("postgres.mark_entries.before", "raise"),
    Failpoint("postgres.mark_entries.after", "lose"),
    Failpoint("redis.ack_if_owner.before", "raise"),
    Failpoint("redis.ack_if_owner.after", "lose"),
    Failpoint("redis.remove_consumer_if_idle.before", "raise"),
]
SERVING: Final = [
    *(
        failpoint
        for edge in (
            "postgres.accept_jobs",
            "postgres.cancel_owned_job",
            "postgres.mark_entries",
            "postgres.clear_event_pending",
            "redis.xadd",
            "redis.publish",
            "redis.append_events",
        )
        for failpoint in survivable(edge)
    ),
]


ALL: Final = (
    *STARTING,
    *PAYING,
    *RENEWING,
    *ENDING,
    *RETRYING,
    *TAKING_OVER,
    *HANDING_BACK,
    *ACCEPTING,
    *CANCELLING,
    *REDRIVING,
    *PURGING,
    *REPAIRING,
    *RELAYING,
    *WORKING,
    *LEAVING,
    *SERVING,
)
