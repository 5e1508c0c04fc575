"""What callers read and write is found by tenant and user, except where it says here why not."""

import re
from pathlib import Path

from tests.architecture.test_statements import MIGRATIONS, QUERIES, by_name, split

KEYS = "keys are made, listed and revoked by whoever runs the service, on the command line"
LOOKED_UP = "whose key it is, is what it finds out"
WORKERS = "workers run everybody's jobs, each guarded by its attempt"
UPKEEP = "maintenance repairs and deletes for everybody"
SHOWN = "asked only about jobs whose row the caller was given before"
OPERATORS = "the scope `admin` sees everybody's failed jobs, and neither stories nor results"

NOT_BY_OWNER = {
    "abandon_calls": UPKEEP,
    "accept_jobs": "what it writes belongs to the tenants and users that it is given",
    "claim_jobs": WORKERS,
    "clear_event_pending": UPKEEP,
    "close_calls": WORKERS,
    "count_jobs": "the scope `admin` sees how many jobs there are, not whose",
    "delete_ended_jobs": UPKEEP,
    "delete_expired_keys": UPKEEP,
    "delete_old_calls": UPKEEP,
    "delete_old_days": UPKEEP,
    "fail_overdue": UPKEEP,
    "find_api_key": LOOKED_UP,
    "get_job": WORKERS,
    "insert_api_key": KEYS,
    "list_api_keys": KEYS,
    "list_calls_left_open": UPKEEP,
    "list_dead_letters": OPERATORS,
    "list_expired_leases": UPKEEP,
    "list_owing_events": UPKEEP,
    "list_suspect_entries": UPKEEP,
    "list_user_limits": "an administrator lists the users whose limits differ",
    "mark_entries": UPKEEP,
    "open_calls_if_current": WORKERS,
    "read_checkpoints": SHOWN,
    "read_fences": SHOWN,
    "read_token_day": WORKERS,
    "record_if_current": WORKERS,
    "recover_if_expired": UPKEEP,
    "redrive_failed_jobs": "operators redrive everybody's; owners are given as parameters",
    "renew_leases": WORKERS,
    "revoke_api_key": KEYS,
    "sample_queue": "how many jobs there are, not whose",
    "set_user_limits": "what it writes belongs to the user that it is given",
    "sum_ledger": SHOWN,
    "take_relay_batch": UPKEEP,
    "touch_api_key": LOOKED_UP,
    "unmark_entries": UPKEEP,
}

OWNER = ("tenant", "user")
_TABLE = re.compile(r"CREATE TABLE (\w+) \((.*?)\n\)", re.DOTALL)


def owned_tables() -> set[str]:
    """The tables that belong to somebody: by name, or as part of a job."""
    found = [match for path in MIGRATIONS for match in _TABLE.findall(path.read_text())]
    return {name for name, columns in found if re.search(r"\b(tenant_id|job_id)\b", columns)}


def touches_owned(body: str) -> bool:
    """Whether a statement reads or writes what belongs to somebody."""
    touched = set(re.findall(r"\b(?:FROM|JOIN|UPDATE|INTO|USING)\s+(\w+)", body))
    return not touched.isdisjoint({*owned_tables(), "accept_jobs"})


def is_by_owner(query: Path) -> bool:
    """Whether a statement takes a tenant and a user, and finds only what is theirs."""
    head, body = split(query)
    told = "\n".join(head)
    tenant, user = (re.search(rf"\$(\d+) {name}\b(?! \(null: any)", told) for name in OWNER)
    return bool(
        tenant
        and user
        and re.search(rf"\btenant_id = \${tenant[1]}\b", body)
        and re.search(rf"\buser_id = \${user[1]}\b", body)
    )


@by_name
def test_a_statement_about_what_belongs_to_somebody_is_given_the_owner(query: Path) -> None:
    if query.stem not in NOT_BY_OWNER and touches_owned(split(query)[1]):
        assert is_by_owner(query)


def test_the_exceptions_are_exceptions() -> None:
    assert owned_tables() >= {"jobs", "checkpoints", "usage_records", "daily_usage", "user_limits"}
    others = {q.stem for q in QUERIES if touches_owned(split(q)[1]) and not is_by_owner(q)}
    assert others == NOT_BY_OWNER.keys()


def test_callers_are_served_by_owner() -> None:
    assert {query.stem for query in QUERIES if is_by_owner(query)} >= {
        "cancel_owned_job",
        "find_user_limits",
        "get_owned_job",
        "list_owned_jobs",
        "purge_owned_job",
    }
