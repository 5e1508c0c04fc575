"""A reply as a list of frames on the wire, with the fault, if any, worked in."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import orjson

from service.agent.model_stub.faults import Fault, FaultKind, error_type_of
from service.agent.model_stub.prompt_cache import count_tokens
from service.domain.usage import Usage

_FILLER = "x" * 65_536
_FLOOD_PIECES = 1600


class Ending(StrEnum):
    """What the server does after the last frame."""

    END = "end"
    ABORT = "abort"
    STALL = "stall"


@dataclass(frozen=True, slots=True)
class Frame:
    """One event; `text` is what it lets the client read, `pause` seconds to wait before it."""

    data: bytes
    text: str = ""
    pause: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """Everything the server sends, and how it ends."""

    frames: tuple[Frame, ...]
    ending: Ending = Ending.END
    completes: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the model says."""

    id: str
    model: str
    prompt: Usage
    text: str
    stop_reason: str = "end_turn"
    shows_usage: bool = True


def event(name: str, /, **data: Any) -> bytes:
    """Render one event of the stream."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps({"type": name, **data}))


def write_script(reply: Reply, fault: Fault | None, piece_length: int, pause: float) -> Script:
    """Render a reply; `pause` is the time between pieces of text, in seconds."""
    reply = _spoil(reply, fault)
    length = piece_length
    pieces = [reply.text[start : start + length] for start in range(0, len(reply.text), length)]
    opening = [Frame(_message_start(reply)), Frame(event("ping")), Frame(_block_start())]
    deltas = [Frame(_text_delta(piece), piece, pause) for piece in pieces]
    closing = [Frame(data) for data in _closing(reply)]
    if fault is None:
        return Script(frames=(*opening, *deltas, *closing))
    return _break(opening, deltas, closing, fault)


def _spoil(reply: Reply, fault: Fault | None) -> Reply:
    match fault.kind if fault else None:
        case FaultKind.REFUSE:
            return replace(reply, text="", stop_reason="refusal")
        case FaultKind.CUT:
            return replace(reply, text=reply.text[: len(reply.text) // 2], stop_reason="max_tokens")
        case FaultKind.MALFORMED_OUTPUT:
            return replace(reply, text='{"patches": [ oops')
        case FaultKind.NO_CONTENT:
            return replace(reply, text="")
        case FaultKind.NO_USAGE:
            return replace(reply, shows_usage=False)
        case _:
            return reply


def _break(opening: list[Frame], deltas: list[Frame], closing: list[Frame], fault: Fault) -> Script:
    sent = (*opening, *deltas[: fault.after or 0])
    is_whole = (fault.after or 0) > len(deltas)
    match fault.kind:
        case FaultKind.ABORT:
            return Script(frames=sent, ending=Ending.ABORT, completes=False)
        case FaultKind.STALL:
            frames = (*sent, *closing) if is_whole else sent
            return Script(frames=frames, ending=Ending.STALL, completes=is_whole)
        case FaultKind.END_EARLY:
            frames = (*sent, *closing[:-1]) if is_whole else sent
            return Script(frames=frames, completes=False)
        case FaultKind.ERROR_EVENT:
            return Script(frames=(*sent, Frame(_error(fault))), completes=False)
        case FaultKind.NO_CONTENT:
            return Script(frames=(opening[0], *closing[1:]))
        case _:
            written = tuple(_disturbed(deltas, fault))
            frames = (*opening, *written, *closing)
            return Script(frames=_slowed(frames, fault.delay))


def _disturbed(deltas: list[Frame], fault: Fault) -> Iterator[Frame]:
    """Yield the pieces of text, with what does not belong among them."""
    before = fault.after or 0
    yield from deltas[:before]
    match fault.kind:
        case FaultKind.MALFORMED_EVENT:
            yield Frame(b'event: content_block_delta\ndata: {"type": "content_bl\n\n')
        case FaultKind.NOT_UTF8:
            yield Frame(_text_delta("?").replace(b"?", b"\xff"))
        case FaultKind.REPEATED_TEXT:
            # A chunk that comes twice was written once.
            yield from (replace(delta, text="") for delta in deltas[:before])
        case FaultKind.UNKNOWN_EVENTS:
            yield from map(Frame, _unknown())
        case FaultKind.FLOOD:
            yield from [Frame(_text_delta(_FILLER), _FILLER)] * _FLOOD_PIECES
        case FaultKind.GIANT_EVENT:
            head, tail = _text_delta("?").split(b"?")
            yield from (Frame(head), *[Frame(_FILLER.encode())] * _FLOOD_PIECES, Frame(tail))
    yield from deltas[before:]


def _slowed(frames: tuple[Frame, ...], delay: float) -> tuple[Frame, ...]:
    return tuple(replace(frame, pause=delay) for frame in frames) if delay else frames


def _message_start(reply: Reply) -> bytes:
    message: dict[str, Any] = {
        "id": reply.id,
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }
    if reply.shows_usage:
        message["usage"] = _prompt_usage(reply.prompt) | {"output_tokens": 1}
    return event("message_start", message=message)


def _prompt_usage(prompt: Usage) -> dict[str, Any]:
    return {
        "input_tokens": prompt.input,
        "cache_creation_input_tokens": prompt.cache_write,
        "cache_read_input_tokens": prompt.cache_read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": prompt.cache_write,
            "ephemeral_1h_input_tokens": 0,
        },
        "service_tier": "standard",
    }


def _block_start() -> bytes:
    return event("content_block_start", index=0, content_block={"type": "text", "text": ""})


def _text_delta(piece: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})


def _closing(reply: Reply) -> Iterator[bytes]:
    delta: dict[str, Any] = {"stop_reason": reply.stop_reason, "stop_sequence": None}
    if reply.stop_reason == "refusal":
        explanation = "This request was declined."
        delta["stop_details"] = {
            "type": "refusal",
            "category": "other",
            "explanation": explanation,
        }
    usage = {"output_tokens": count_tokens(len(reply.text))} if reply.shows_usage else None
    yield event("content_block_stop", index=0)
    yield event("message_delta", delta=delta, **({"usage": usage} if usage else {}))
    yield event("message_stop")


def _error(fault: Fault) -> bytes:
    error = {"type": error_type_of(fault), "message": fault.message}
    return event("error", error=error)


def _unknown() -> Iterator[bytes]:
    yield event("message_weather", forecast={"sky": "clear"})
    yield event("content_block_delta", index=0, delta={"type": "aroma_delta", "aroma": "coffee"})
    yield event("content_block_start", index=1, content_block={"type": "hologram"})
    yield event("content_block_stop", index=1)
