"""A job's progress in words: what each event adds."""

from collections.abc import Iterator
from typing import Any

from service.cli.endings import dollars
from service.client.event_stream import StreamEvent
from service.domain.events import EventType
from service.domain.job import JsonObject

_SIGNS = {"add": "+", "replace": "~", "remove": "-", "merge": "&"}


def lines_of(event: StreamEvent) -> Iterator[str]:
    """Tell one event; those that end a job are told by its ending."""
    data = event.data
    match event.type:
        case EventType.CONNECTED:
            yield f"job {data.get('jobId')} is {data.get('status')}"
        case EventType.RESYNC:
            yield "some events were lost; going on from the last checkpoint"
        case EventType.START:
            yield _opening(data)
        case EventType.WAITING | EventType.RETRYING:
            yield waiting(event)
        case _:
            yield from _of_iteration(event)


def _of_iteration(event: StreamEvent) -> Iterator[str]:
    data = event.data
    match event.type:
        case EventType.ITERATION_START:
            yield f"{data.get('iteration')} ({data.get('index')} of {data.get('total')})"
        case EventType.ITERATION_PROGRESS:
            yield from map(patch_line, data.get("patches", ()))
            if data.get("phase") == "verify" and not data.get("patches"):
                yield "  checking what was written"
        case EventType.ITERATION_RESET:
            yield f"  writing this again ({data.get('reason')})"
        case EventType.ITERATION_COMPLETE:
            yield f"  done: {account(data)}"


def patch_line(patch: JsonObject) -> str:
    """Tell one change to the story."""
    sign = _SIGNS.get(patch.get("op", ""), "?")
    subject = patch.get("id") or ", ".join(patch.get("ids") or ()) or patch.get("path", "")
    return f"  {sign} {subject}  {_one_line(patch.get('text'))}".rstrip()


def account(completed: JsonObject) -> str:
    """Sum up a completed iteration."""
    verification = completed.get("verification")
    parts = [_count(len(completed.get("applied") or ()), "change")]
    if verification:
        verdict = "passed" if verification.get("passed") else "not passed"
        parts.append(f"check {verdict} ({verification.get('score', 0):.2f})")
    parts.append(f"{completed.get('durationMs', 0) / 1000:.1f} s")
    if completed.get("costUsd") != 0:
        parts.append(dollars(completed.get("costUsd")))
    return ", ".join(parts)


def waiting(event: StreamEvent) -> str:
    """Tell why nothing happens, and until when."""
    data = event.data
    if event.type == EventType.WAITING:
        return f"waiting until {data.get('until')}: {data.get('reason')}"
    reason = data.get("code") or data.get("reason")
    return f"interrupted ({reason}); going on at {data.get('availableAt')}"


def _opening(data: JsonObject) -> str:
    iterations = ", ".join(data.get("iterations", ()))
    if not data.get("resumed"):
        return f"started: {iterations}"
    done, total = len(data.get("completed", ())), len(data.get("iterations", ()))
    return f"resumed after {done} of {_count(total, 'iteration')}: {iterations}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _one_line(text: Any) -> str:
    return " ".join(str(text or "").split())
