"""Spans: which work of a job took how long, in which process, and after what.

Where tracing is off, nothing here does anything, and nothing is imported for it.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from typing import Final, Protocol, TypeAlias

from service.domain.attempt import Fence

# Never a story, a key, or anybody's name: spans are read by more people than stories are.
Attributes: TypeAlias = Mapping[str, str | int | float | bool | None]


class Kind(StrEnum):
    """What a span is to the one before it."""

    SERVER = "server"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"


class Span(Protocol):
    """One piece of work; it ends with its block, and what raises there is not written down."""

    @property
    def trace_parent(self) -> str | None:
        """What a child in another process is given; None if nothing is traced."""
        ...

    def note(self, attributes: Attributes) -> None:
        """Add what is known by now; None says nothing."""
        ...

    def fail(self, code: str) -> None:
        """Mark the work as failed, for a reason that is one of a few words."""
        ...


class Tracer(Protocol):
    """What makes spans of whatever is asked for."""

    def span(
        self,
        kind: Kind,
        name: str,
        *,
        parent: str | None,
        attempt: Fence | None,
        follows: Fence | None,
        attributes: Attributes,
    ) -> AbstractContextManager[Span]:
        """Begin a span; see `span`."""
        ...


class _NoSpan:
    @property
    def trace_parent(self) -> str | None:
        return None

    def note(self, attributes: Attributes) -> None:
        pass

    def fail(self, code: str) -> None:
        pass


NO_SPAN: Final[Span] = _NoSpan()
_tracer: Tracer | None = None


def trace_with(tracer: Tracer | None) -> None:
    """Make spans with this tracer from now on; None turns tracing off."""
    global _tracer  # noqa: PLW0603 - one process has one, like its log and its metrics
    _tracer = tracer


def span(
    kind: Kind,
    name: str,
    *,
    parent: str | None = None,
    attempt: Fence | None = None,
    follows: Fence | None = None,
    attributes: Attributes | None = None,
) -> AbstractContextManager[Span]:
    """Trace the work inside a block, under `parent` or else under the span around it.

    The span of an `attempt` has an id that follows from it, so that the next one can be linked
    with the one it `follows` even if that died with its process.
    """
    if _tracer is None:
        return nullcontext(NO_SPAN)
    return _tracer.span(
        kind, name, parent=parent, attempt=attempt, follows=follows, attributes=attributes or {}
    )
