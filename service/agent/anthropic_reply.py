"""One streamed reply as it is read, and what it has used so far."""

import math
from collections.abc import Callable
from typing import Any

from service.agent.anthropic_failures import transient
from service.domain.errors import ModelFailure
from service.domain.usage import Usage, UsageMeter
from service.ports.model import ModelReply

_CHARACTERS_PER_TOKEN = 4


class ReplyReading:
    """One reply as read so far, mirrored into the meter with every event.

    The meter is exact about input from the first event on, and about output from the last;
    in between it estimates, from the text that has come.
    """

    def __init__(
        self,
        meter: UsageMeter,
        expected_input: int,
        on_text: Callable[[str], None],
        max_bytes: int,
    ) -> None:
        self.meter = meter
        self.is_complete = False
        self._on_text = on_text
        self._max_bytes = max_bytes
        self._texts: list[str] = []
        self._bytes = 0
        self._characters = 0
        self._stop_reason: str | None = None
        self._is_input_exact = False
        meter.usage = Usage(input=expected_input, estimated=True)

    def add(self, event: Any) -> None:
        """Take in one event; unknown ones, and unknown parts of known ones, are skipped."""
        match getattr(event, "type", None):
            case "message_start":
                self._start(getattr(event, "message", None))
            case "content_block_delta":
                self._extend(getattr(event, "delta", None))
            case "message_delta":
                self._finish(event)
            case "message_stop":
                self.is_complete = True

    def reply(self) -> ModelReply:
        """Return the finished reply."""
        if self._stop_reason is None:
            raise transient("the model did not say why it stopped")
        return ModelReply(
            text="".join(self._texts),
            stop_reason=self._stop_reason,
            usage=self.meter.usage,
            model=self.meter.model or "",
            request_id=self.meter.request_id,
        )

    def _start(self, message: Any) -> None:
        self.meter.model = getattr(message, "model", None) or self.meter.model
        usage = getattr(message, "usage", None)
        read = _count(usage, "input_tokens")
        if read is None:
            return
        self._is_input_exact = True
        self.meter.usage = Usage(
            input=read,
            output=_count(usage, "output_tokens") or 0,
            cache_read=_count(usage, "cache_read_input_tokens") or 0,
            cache_write=_count(usage, "cache_creation_input_tokens") or 0,
            estimated=True,
        )

    def _extend(self, delta: Any) -> None:
        text = getattr(delta, "text", None)
        # Thinking is billed as output, too, as far as it is shown.
        self._characters += len(text or getattr(delta, "thinking", None) or "")
        used = self.meter.usage
        output = max(used.output, math.ceil(self._characters / _CHARACTERS_PER_TOKEN))
        self.meter.usage = Usage(used.input, output, used.cache_read, used.cache_write, True)
        if not isinstance(text, str) or not text:
            return
        self._bytes += len(text.encode(errors="surrogatepass"))
        if self._bytes > self._max_bytes:
            message = f"the model's reply is longer than {self._max_bytes} bytes"
            raise ModelFailure("MODEL_OUTPUT_INVALID", message)
        self._texts.append(text)
        self._on_text(text)

    def _finish(self, event: Any) -> None:
        reason = getattr(getattr(event, "delta", None), "stop_reason", None)
        self._stop_reason = reason or self._stop_reason
        usage, before = getattr(event, "usage", None), self.meter.usage
        output = _count(usage, "output_tokens")
        read = _count(usage, "input_tokens")
        cache_read = _count(usage, "cache_read_input_tokens")
        cache_write = _count(usage, "cache_creation_input_tokens")
        self._is_input_exact = self._is_input_exact or read is not None
        self.meter.usage = Usage(
            input=before.input if read is None else read,
            output=before.output if output is None else output,
            cache_read=before.cache_read if cache_read is None else cache_read,
            cache_write=before.cache_write if cache_write is None else cache_write,
            estimated=output is None or not self._is_input_exact,
        )


def _count(usage: Any, name: str) -> int | None:
    count = getattr(usage, name, None)
    return count if isinstance(count, int) and count >= 0 else None
