"""Everything there is at one moment: the row, the entries, the events, who is doing what."""

from enum import IntEnum
from typing import Final, NamedTuple, TypeAlias

# The attempt that the job had when the entry was added, and a number to tell entries apart.
EntryId: TypeAlias = tuple[int, int]
EventId: TypeAlias = tuple[int, int]

NO_ENTRY: Final[EntryId] = (-1, -1)
NO_EVENT: Final[EventId] = (0, 0)

NOBODY: Final = -2
# A worker that was killed: what was its own renews itself no more.
GONE: Final = -1

ABSENT: Final = "absent"
QUEUED: Final = "queued"
PROCESSING: Final = "processing"
COMPLETED: Final = "completed"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
ENDED: Final = frozenset({COMPLETED, FAILED, CANCELLED})


class Row(NamedTuple):
    """The job in Postgres; `saved` steps are written down, `open_calls` are (attempt, step).

    `born` is not there, only looked at by invariants: the attempt with which a generation begins.
    """

    status: str = ABSENT
    attempt: int = 0
    worker: int = NOBODY
    entry: EntryId = NO_ENTRY
    crashes: int = 0
    errors: int = 0
    is_due: bool = True
    relay_due: bool = False
    is_late: bool = False
    final: EventId = NO_EVENT
    owes_event: bool = False
    saved: int = 0
    open_calls: tuple[tuple[int, int], ...] = ()
    born: int = 0


class Entry(NamedTuple):
    """A stream entry, pending for its owner unless that is nobody."""

    id: EntryId
    owner: int = NOBODY


class Log(NamedTuple):
    """The newest event of the job's stream, and how the job ended if it is a terminal one."""

    last: EventId = NO_EVENT
    ending: str = ""


class Hand(NamedTuple):
    """An entry that a worker has read, and judged or not.

    Then `known` steps were written down, and the job was at that `attempt`.
    """

    entry: EntryId
    stage: str
    attempt: int = 0
    known: int = 0
    final: EventId = NO_EVENT
    ending: str = ""


class Run(NamedTuple):
    """An attempt as its worker sees it.

    It began after `base` steps and has finished `known`, has told `sent` events, and is to be
    recorded as `outcome`. `again` is the entry that a hand-back has added.
    """

    attempt: int
    entry: EntryId
    phase: str
    base: int = 0
    known: int = 0
    sent: int = 0
    outcome: str = ""
    again: EntryId = NO_ENTRY

    @property
    def numbered(self) -> int:
        """How many events there are to tell: its start, and each step finished."""
        return 1 + self.known - self.base


class Worker(NamedTuple):
    """A process; `must_reread` when entries may be pending for it that it does not know."""

    is_paused: bool = False
    must_reread: bool = False
    hand: Hand | None = None
    run: Run | None = None

    @property
    def rank(self) -> tuple[object, ...]:
        """What workers are ordered by, so that states that differ in their names are one."""
        return (self.is_paused, self.must_reread, self.hand or (), self.run or ())


class Task(NamedTuple):
    """Something that the API or maintenance has begun, and how far it has come."""

    kind: str
    stage: str
    attempt: int = 0
    entry: EntryId = NO_ENTRY
    final: EventId = NO_EVENT
    ending: str = ""


class Fault(IntEnum):
    """What may go wrong or come from outside, each so often as a scope allows."""

    CRASH = 0
    PAUSE = 1
    FLUSH = 2
    LOSS = 3
    DEATH = 4
    DELAY = 5
    DUPLICATE = 6
    ERROR = 7
    CANCEL = 8
    HAND_BACK = 9
    DEADLINE = 10
    REDRIVE = 11


class State(NamedTuple):
    """One moment; `used` counts faults, `is_told` whether the terminal event was ever there."""

    row: Row
    workers: tuple[Worker, ...]
    used: tuple[int, ...] = (0,) * len(Fault)
    entries: tuple[Entry, ...] = ()
    log: Log = Log()
    is_told: bool = False
    tasks: tuple[Task, ...] = ()

    def with_worker(self, name: int, worker: Worker) -> "State":
        """Return the state with one worker changed."""
        return self._replace(workers=(*self.workers[:name], worker, *self.workers[name + 1 :]))

    def with_run(self, name: int, run: Run | None) -> "State":
        """Return the state with one worker's attempt changed."""
        return self.with_worker(name, self.workers[name]._replace(run=run))

    def with_hand(self, name: int, hand: Hand | None) -> "State":
        """Return the state with what one worker has read changed."""
        return self.with_worker(name, self.workers[name]._replace(hand=hand))

    def with_task(self, done: Task | None, begun: Task | None) -> "State":
        """Return the state with a task replaced, begun or ended."""
        tasks = list(self.tasks)
        if done is not None:
            tasks.remove(done)
        if begun is not None:
            tasks.append(begun)
        return self._replace(tasks=tuple(tasks))

    def owner(self, entry_id: EntryId) -> int | None:
        """Return who holds an entry, or None if it is not in the stream."""
        return next((each.owner for each in self.entries if each.id == entry_id), None)
