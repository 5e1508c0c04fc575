"""How long jobs waited after a fault, by the history that the database kept."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from tests.chaos.world import Member, World


@dataclass(frozen=True, slots=True)
class Step:
    """One change of a job's row; `at` is the database's time."""

    at: float
    attempt: int
    status: str
    handbacks: int


History = Mapping[UUID, list[Step]]


async def running_on(world: World, worker: Member) -> dict[UUID, int]:
    """The jobs that a worker runs now, and their attempts."""
    return await _attempts(
        world, "status = 'processing' AND worker_id = $1", worker.worker_id or "nobody"
    )


async def in_redis(world: World) -> dict[UUID, int]:
    """The due jobs that wait for an entry to be read, and their attempts."""
    return await _attempts(
        world, "status = 'queued' AND entry_id IS NOT NULL AND available_at <= clock_timestamp()"
    )


async def _attempts(world: World, condition: str, *parameters: str) -> dict[UUID, int]:
    rows = await world.rows(f"SELECT id, attempt FROM jobs WHERE {condition}", *parameters)  # noqa: S608
    return {row["id"]: row["attempt"] for row in rows}


async def read_history(world: World) -> History:
    """Every change of every job, in order."""
    history: dict[UUID, list[Step]] = defaultdict(list)
    for row in await world.rows("SELECT * FROM job_history ORDER BY position"):
        at, status = row["at"].timestamp(), row["new_status"]
        history[row["job_id"]].append(Step(at, row["attempt"], status, row["handbacks"]))
    return history


def waits_after(history: History, held: Mapping[UUID, int], since: float) -> list[float]:
    """Seconds from `since` until each job ran again, by a later attempt, or had ended.

    One that had moved on between the look at it and the fault has not waited at all.
    """
    return [
        next(
            (max(0.0, s.at - since) for s in history.get(job_id, ()) if _moved(s, attempt)),
            float("inf"),
        )
        for job_id, attempt in held.items()
    ]


def _moved(step: Step, attempt: int) -> bool:
    if step.attempt < attempt:
        return False
    if step.status == "processing":
        return step.attempt > attempt
    return step.status != "queued"


def waits_after_handback(
    history: History, held: Iterable[UUID], since: float, until: float
) -> list[float]:
    """Seconds that jobs handed back in that time waited for their next start, or their end."""
    waits = []
    for job_id in held:
        steps = history.get(job_id, [])
        for before, step, after in zip(steps, steps[1:], steps[2:], strict=False):
            is_handback = step.status == "queued" and step.handbacks > before.handbacks
            if is_handback and since <= step.at <= until:
                waits.append(after.at - step.at)
    return waits
