"""What must hold after every step, whatever the step was."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Final, TypeAlias
from uuid import UUID

from service.domain.events import EventId, EventType
from service.domain.job import JobStatus
from tests.stateful.observation import Observation, Told
from tests.stateful.upkeep_model import UpkeepModel

_FINAL: Final[Mapping[JobStatus, EventType]] = {
    JobStatus.COMPLETED: EventType.COMPLETE,
    JobStatus.FAILED: EventType.ERROR,
    JobStatus.CANCELLED: EventType.CANCELLED,
}
# A job, and the id of the event with which it ended.
End: TypeAlias = tuple[UUID, str | None]

_NOBODY: Final = UUID(int=0)
_NOT_IN_A_ROW: Final = {"owner", "checkpoints", "generation", "planned_tokens", "time_allowed"}


@dataclass(frozen=True, slots=True)
class Step:
    """What a step was allowed to do beside its work.

    `by` is the worker that acts, who alone may acknowledge what it holds; `is_late`: perhaps
    after it has begun to need it again.
    """

    by: str | None = None
    is_late: bool = False
    loses_entries: bool = False
    moves_entries: bool = False
    loses_events: bool = False


def check(
    before: Observation, now: Observation, model: UpkeepModel, step: Step, untold: set[End]
) -> None:
    """Raise AssertionError for the first promise that is broken.

    `untold` are the ends that were taken away after they had been told.
    """
    assert model.surprises == []
    _rows_equal_the_model(now, model)
    _books_balance(now, model)
    _ended_jobs_stay_as_they_are(before, now, model)
    _events_are_a_history(now)
    if not step.loses_events:
        _what_was_told_stays_told(before, now, model)
    _only_the_end_of_a_job_is_final(now, model)
    _the_end_is_told_before_it_counts_as_told(before, now, untold)
    _only_what_nobody_needs_is_acknowledged(before, now, step)


def _rows_equal_the_model(now: Observation, model: UpkeepModel) -> None:
    expected = {}
    for job_id, row in model.rows.items():
        expected[job_id] = {k: v for k, v in asdict(row).items() if k not in _NOT_IN_A_ROW}
    assert now.rows == expected
    assert now.checkpoints == {
        job_id: row.checkpoints for job_id, row in model.rows.items() if row.checkpoints
    }


def _books_balance(now: Observation, model: UpkeepModel) -> None:
    assert now.ledger == {
        (fence.job_id, fence.attempt, number): (
            call.day,
            call.ending,
            call.usage.total,
            call.cost,
        )
        for (fence, number), call in model.books.calls.items()
    }
    assert now.days == model.books.days()


def _ended_jobs_stay_as_they_are(before: Observation, now: Observation, model: UpkeepModel) -> None:
    for job_id, row in now.rows.items():
        was = before.rows.get(job_id, row)
        assert row["attempt"] >= was["attempt"]
        is_redriven = model.rows[job_id].generation > was["attempt"]
        if JobStatus(was["status"]).is_terminal and not is_redriven:
            assert row == {**was, "event_pending": row["event_pending"] and was["event_pending"]}
            assert job_id not in before.outcomes or now.outcomes[job_id] == before.outcomes[job_id]


def _events_are_a_history(now: Observation) -> None:
    assert now.immortal == set()
    for events in now.events.values():
        _ids_are_contiguous(events)


def _what_was_told_stays_told(before: Observation, now: Observation, model: UpkeepModel) -> None:
    """But a redrive takes away what was told of earlier generations, and a purge everything."""
    for job_id, events in now.events.items():
        was = before.events.get(job_id, [])
        if (row := model.rows.get(job_id)) is not None:
            left = [each for each in was if each.id.attempt >= row.generation]
            assert events[: len(was)] == was or events[: len(left)] == left
    for job_id, beginning in model.begun.items():
        assert all(told.id >= beginning for told in now.events.get(job_id, []))
    for job_id in model.sealed:
        assert now.events.get(job_id, []) == []


def _ids_are_contiguous(events: list[Told]) -> None:
    """All but the final one, which is worth more than an unbroken history."""
    for earlier, later in pairwise(events):
        assert earlier.id < later.id
        if not EventType(later.type).is_terminal:
            is_next = later.id == EventId(earlier.id.attempt, earlier.id.seq + 1)
            assert is_next or (later.id.attempt > earlier.id.attempt and later.id.seq == 1)


def _only_the_end_of_a_job_is_final(now: Observation, model: UpkeepModel) -> None:
    """What is left of earlier generations does not count: readers pass it over."""
    for job_id, row in model.rows.items():
        events = [e for e in now.events.get(job_id, []) if e.id.attempt >= row.generation]
        finals = [each for each in events if EventType(each.type).is_terminal]
        assert finals in ([], events[-1:])
        for final in finals:
            assert (str(final.id), final.type) == (row.final_event_id, _FINAL[row.status])


def _the_end_is_told_before_it_counts_as_told(
    before: Observation, now: Observation, untold: set[End]
) -> None:
    for job_id, row in now.rows.items():
        was_owed = before.rows.get(job_id, row)["event_pending"]
        end = (job_id, row["final_event_id"])
        if was_owed and not row["event_pending"] and end not in untold:
            assert row["final_event_id"] is None or now.ends_with(*end)


def _only_what_nobody_needs_is_acknowledged(
    before: Observation, now: Observation, step: Step
) -> None:
    if not step.loses_entries:
        # An entry that was delivered and is pending for nobody will not be read again.
        for entry in (before.holders.keys() | before.coming) - now.entries.keys():
            row = now.rows.get(before.entries.get(entry, _NOBODY))
            is_over = row is None or JobStatus(row["status"]).is_terminal
            assert is_over or step.is_late or (row or {})["entry_id"] != entry[1]
            assert step.moves_entries or before.holders.get(entry) == step.by
    if not step.moves_entries:
        for entry, holder in before.holders.items():
            assert now.holders.get(entry, holder) == holder
