"""Everything that is known about one job, from all ledgers, in the order of time."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from time import monotonic, time

from tests.chaos.checks import Evidence
from tests.chaos.faults.injury import Injury

_NEAR = 3.0

Moment = tuple[float, str]


def timeline_of(found: Evidence, nonce: str, injuries: Sequence[Injury]) -> list[str]:
    """One line per thing that happened, the faults of that time included."""
    moments = sorted([*_row_changes(found, nonce), *_money(found, nonce), *_clients(found, nonce)])
    if moments:
        first, last = moments[0][0] - _NEAR, moments[-1][0] + _NEAR
        moments += [
            (each.since, f"FAULT {each.kind} {each.note}")
            for each in injuries
            if first <= each.since <= last
        ]
    told = [f"  {_clock(at)} {what}" for at, what in sorted(moments)]
    return [*told, *_transcripts(found, nonce)]


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")[:-3]


def _row_changes(found: Evidence, nonce: str) -> Iterator[Moment]:
    for step in found.history.get(found.world.job_ids[nonce], ()):
        change = f"{step['old_status']} -> {step['new_status']}"
        yield step["at"].timestamp(), f"row     {change}, attempt {step['attempt']}"


def _money(found: Evidence, nonce: str) -> Iterator[Moment]:
    job_id = found.world.job_ids[nonce]
    for row in found.ledger:
        if row["job_id"] == job_id:
            call = f"{row['attempt']}/{row['call']} {row['step']}"
            yield row["opened_at"].timestamp(), f"ledger  opened {call}"
            if row["closed_at"] is not None:
                ending = f"{row['ending']} {row['request_id'] or ''}"
                yield row["closed_at"].timestamp(), f"ledger  closed {call}: {ending}"
    offset = time() - monotonic()
    for bill in found.calls.get(nonce, ()):
        fault = f", {bill.fault}" if bill.fault else ""
        yield bill.started + offset, f"model   {bill.id} asked{fault}"
        if bill.ended is not None:
            how = "completed" if bill.completed else "not completed"
            yield bill.ended + offset, f"model   {bill.id} {how}"
    for (owner, step), row in found.checkpoints.items():
        if owner == job_id:
            yield row["created_at"].timestamp(), f"kept    {step} by attempt {row['attempt']}"


def _clients(found: Evidence, nonce: str) -> Iterable[Moment]:
    acceptance = found.clients.accepted.get(nonce)
    if acceptance is not None:
        failures = f" after {acceptance.failures} failures" if acceptance.failures else ""
        yield acceptance.at, f"client  accepted{failures}"
    answer = found.clients.cancellations.get(nonce)
    if answer is not None:
        yield answer.at, f"client  cancellation answered with {answer.status}"


def _transcripts(found: Evidence, nonce: str) -> Iterator[str]:
    for transcript in found.transcripts:
        if transcript.job.nonce == nonce:
            ids = " ".join(f"{attempt}-{seq}" for attempt, seq in transcript.ids)
            yield f"  watcher saw {ids}; it ended with {transcript.endings}"
