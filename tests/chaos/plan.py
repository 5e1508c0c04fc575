"""What a run will do, drawn from its seed alone: the same seed and size, the same plan."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

TENANTS: Final = ("acme", "globex", "initech")
USERS_PER_TENANT: Final = 4
REPLICAS: Final = 2

_ITERATIONS = ("user-roles", "validation", "accessibility", "security", "analytics")
_SHORTEST, _LONGEST = 0.5, 20.0
_FIRST_FAULT = 6.0
_LAST_ARRIVAL = 4.0
# This share of the jobs comes in bursts, each in the second before a fault.
_IN_BURSTS = 0.3
_BURST_EVERY = 3


class Fate(StrEnum):
    """How a job ends unless somebody cancels it or queues it again."""

    COMPLETES = "completed"
    REFUSED = "failed"


class Habit(StrEnum):
    """How a client watches a job."""

    STEADY = "steady"
    DROPS = "drops"
    LATE = "late"
    RESTARTS = "restarts"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedJob:
    """One submission; times in seconds, `at` from the start of the run.

    `seconds` is what its model calls take together when nothing goes wrong.
    """

    number: int
    at: float
    tenant: int
    user: int
    agent: str
    seconds: float
    iterations: tuple[str, ...]
    verify: bool
    steps: int
    fate: Fate
    is_redriven: bool
    cancel_after: float | None
    habits: tuple[Habit, ...]

    @property
    def nonce(self) -> str:
        """What its story and every model call about it contain, and nothing else does."""
        return f"chaos-{self.number:06d}"

    @property
    def key(self) -> str:
        """Its idempotency key."""
        return f"key-{self.number:06d}"

    @property
    def ending(self) -> Fate:
        """How it stands in the end unless somebody cancels it."""
        return Fate.COMPLETES if self.is_redriven else self.fate

    @property
    def calls(self) -> int:
        """How many model calls it needs when nothing goes wrong."""
        if self.agent == "user-story":
            return len(self.iterations) * (2 if self.verify else 1)
        return self.steps


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFault:
    """One fault; `dice` seeds whatever it has to choose, such as its victim."""

    number: int
    at: float
    kind: str
    dice: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Jobs and faults in the order of their time, and how long both go on."""

    seed: int
    jobs: tuple[PlannedJob, ...]
    faults: tuple[PlannedFault, ...]
    seconds: float

    def as_json_lines(self) -> Iterator[dict[str, Any]]:
        """Every planned thing as one JSON object."""
        for job in self.jobs:
            yield {"job": asdict(job)}
        for fault in self.faults:
            yield {"fault": asdict(fault)}


def make_plan(seed: int, jobs: int, faults: int, rooms: Mapping[str, float]) -> Plan:
    """Draw a plan; `rooms` are the seconds that each kind of fault needs for itself.

    Every kind comes at least once when there are at least as many faults as kinds. Jobs
    arrive over the whole plan, some of them in bursts, so that faults find a queue.
    """
    dice = random.Random(seed)  # noqa: S311 - a reproducible plan, no secret
    planned = tuple(_faults(dice, faults, rooms))
    last = planned[-1].at + rooms[planned[-1].kind] if planned else _FIRST_FAULT
    arrivals = sorted(_arrival(dice, planned, last - _LAST_ARRIVAL) for _ in range(jobs))
    return Plan(seed, tuple(_job(dice, n, at) for n, at in enumerate(arrivals)), planned, last)


def _faults(dice: random.Random, count: int, rooms: Mapping[str, float]) -> Iterator[PlannedFault]:
    kinds: list[str] = []
    while len(kinds) < count:
        once_each = list(rooms)
        dice.shuffle(once_each)
        kinds += once_each
    at = _FIRST_FAULT
    for number, kind in enumerate(kinds[:count]):
        yield PlannedFault(number=number, at=round(at, 3), kind=kind, dice=dice.getrandbits(32))
        at += rooms[kind]


def _arrival(dice: random.Random, faults: Sequence[PlannedFault], last: float) -> float:
    if faults and dice.random() < _IN_BURSTS:
        return dice.choice(faults[::_BURST_EVERY]).at - dice.random()
    return dice.uniform(0.0, last)


def _job(dice: random.Random, number: int, at: float) -> PlannedJob:
    agent = dice.choices(("user-story", "sleep", "noop"), (60, 32, 8))[0]
    is_story = agent == "user-story"
    is_refused = is_story and dice.random() < 0.06
    # Most are short, a few take the longest.
    seconds = _SHORTEST * (_LONGEST / _SHORTEST) ** (dice.random() ** 2)
    return PlannedJob(
        number=number,
        at=round(at, 3),
        tenant=dice.randrange(len(TENANTS)),
        user=dice.randrange(USERS_PER_TENANT),
        agent=agent,
        seconds=round(seconds, 3),
        iterations=_some_iterations(dice) if is_story else (),
        verify=is_story and dice.random() < 0.5,
        steps=dice.randint(1, 8) if agent == "sleep" else 0,
        fate=Fate.REFUSED if is_refused else Fate.COMPLETES,
        is_redriven=is_refused and dice.random() < 0.5,
        cancel_after=round(dice.uniform(0.0, seconds * 1.2), 3) if dice.random() < 0.06 else None,
        habits=tuple(dice.choices(tuple(Habit), (55, 20, 15, 10), k=dice.choice((0, 1, 1, 2)))),
    )


def _some_iterations(dice: random.Random) -> tuple[str, ...]:
    chosen = dice.sample(_ITERATIONS, dice.randint(1, 3))
    return tuple(each for each in _ITERATIONS if each in chosen)
