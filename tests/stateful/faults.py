"""What happens to whoever acts: it dies before a write, or does not hear that one took effect."""

from asyncio import sleep
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal, TypeAlias, TypeVar, cast

from service.domain.errors import Unavailable

Thing = TypeVar("Thing")

Perform: TypeAlias = Callable[[], Awaitable[Any]]

Kind = Literal["well", "dies", "deaf", "late", "lazy"]

WRITES: Final = frozenset(
    {
        *("accept", "cancel_owned", "redrive_owned", "claim", "record_if_current"),
        *("mark_entry", "clear_event_pending", "open_call", "close_call"),
        *("purge_owned", "erase", "seal"),
        *("append", "redrive", "add_entry", "acknowledge_if_owner", "release_if_owner"),
        *("take_relay_batch", "fail_overdue", "write_off_calls"),
        *("recover_if_expired", "unmark_entries"),
    }
)
# What is left to others if it fails, so that nobody is sure whether it will take effect.
_LAZY: Final = {"mark_entry", "clear_event_pending", "acknowledge_if_owner"}
_SHORTLY: Final = 10


class Crashed(BaseException):
    """The process that acted is gone; nothing in it may catch this."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of an actor at its `nth` write, counted from 0.

    `dies`: it ends just before it. `deaf`: it takes effect, and is answered by silence.
    `late`: it is answered by silence, and takes effect later or never. `lazy`: so it is with
    the `nth` mark, note or acknowledgement instead.
    """

    kind: Kind = "well"
    nth: int = 0


WELL = Fate()


@dataclass(frozen=True, slots=True)
class LateWrite:
    """Something that was sent and given up, in the `act` of that number.

    `sender` is a worker's name, if a worker sent it.
    """

    sender: str | None
    act: int
    land: Perform


@dataclass
class Spell:
    """The fate of whoever acts now, and how far it has come."""

    fate: Fate = WELL
    act: int = 0
    writes: int = 0
    lazy_writes: int = 0
    has_died: bool = False
    in_flight: int = 0
    late: list[LateWrite] = field(default_factory=list)

    def cast(self, fate: Fate) -> None:
        """Begin a new act."""
        self.act += 1
        self.fate, self.writes, self.lazy_writes, self.has_died = fate, 0, 0, False

    @property
    def overdue(self) -> list[LateWrite]:
        """What was sent so long ago that others may have acted meanwhile."""
        return [write for write in self.late if self.act - write.act > _SHORTLY]

    async def over(self, within: int = 1000) -> None:
        """Return when nothing that was begun is still under way."""
        while self.in_flight and within:
            await sleep(0.005)
            within -= 1

    async def through(self, name: str, sender: str | None, perform: Perform) -> Any:
        """Let fate take its course with a write."""
        nth = self._begin(name)
        if self._is_late(name, nth):
            self.late.append(LateWrite(sender, self.act, perform))
            raise Unavailable(name)
        self.in_flight += 1
        try:
            answer = await perform()
        finally:
            self.in_flight -= 1
        if self.fate == Fate("deaf", nth):
            raise Unavailable(name)
        return answer

    def _begin(self, name: str) -> int:
        if self.has_died or self.fate == Fate("dies", self.writes):
            self.has_died = True
            raise Crashed(name)
        self.writes += 1
        return self.writes - 1

    def _is_late(self, name: str, nth: int) -> bool:
        if name in _LAZY:
            self.lazy_writes += 1
            if self.fate == Fate("lazy", self.lazy_writes - 1):
                return True
        # Of events that are taken away later nobody could say whether they had been told.
        return self.fate == Fate("late", nth) and name != "erase"


class _Watched:
    def __init__(self, real: Any, spell: Spell, model: Any, sender: str | None) -> None:
        self._real, self._spell, self._model, self._sender = real, spell, model, sender

    def __getattr__(self, name: str) -> Any:
        act = getattr(self._real, name)
        learn = getattr(self._model, name, None)

        async def perform(*given: Any, **named: Any) -> Any:
            answer = await act(*given, **named)
            if learn is not None:
                learn(answer, *given, **named)
            return answer

        async def write(*given: Any, **named: Any) -> Any:
            performed = partial(perform, *given, **named)
            return await self._spell.through(name, self._sender, performed)

        if name in WRITES:
            return write
        return act if learn is None else perform


def watched(real: Thing, spell: Spell, model: object, sender: str | None = None) -> Thing:
    """The same object, whose writes are under the spell.

    The model's method of the same name, if there is one, gets each answer and the arguments.
    """
    return cast("Thing", _Watched(real, spell, model, sender))
