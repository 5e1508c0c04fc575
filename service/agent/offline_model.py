"""A model without a network: writes by rule, at the pace of a person reading."""

import asyncio
import zlib
from collections.abc import Callable, Iterator
from decimal import Decimal

from service.agent.offline_writer import write_draft, write_verification
from service.domain.errors import ModelFailure
from service.domain.usage import Usage, UsageMeter
from service.ports.model import ModelReply, ModelRequest

OFFLINE = "offline"
_CHARACTERS_PER_TOKEN = 4
_CHUNKS = 40
_SHORTEST_DRAFT = 2.0
_SPREAD = 2.0
_VERIFICATION = 0.6
_VERIFYING = frozenset({"verify", "reverify"})


class OfflineModel:
    """Deterministic in its text; `pace` stretches its pauses, and 0 leaves them out."""

    def __init__(self, pace: float = 1.0) -> None:
        if pace < 0:
            raise ValueError("the pace cannot be negative")
        self._pace = pace

    @property
    def name(self) -> str:
        """The adapter's name."""
        return OFFLINE

    @property
    def is_limited(self) -> bool:
        """It calls nobody."""
        return False

    def estimate_input_tokens(self, request: ModelRequest) -> int:
        """Count characters; nothing is really read."""
        return _tokens(sum(len(text) for text in (*request.system, request.user)))

    def cost_usd(self, model: str, usage: Usage) -> Decimal | None:  # noqa: ARG002
        """Return 0: it costs nothing, and that is known."""
        return Decimal(0)

    async def complete(
        self, request: ModelRequest, meter: UsageMeter, on_text: Callable[[str], None]
    ) -> ModelReply:
        """Write the reply piece by piece; raises `ModelFailure` for what is no story."""
        if "phase" not in request.subject:
            message = "the offline rules write user stories only: this agent needs a model"
            raise ModelFailure("MODEL_UNAVAILABLE", message)
        is_verifying = request.subject["phase"] in _VERIFYING
        text = (write_verification if is_verifying else write_draft)(request.subject)
        read = self.estimate_input_tokens(request)
        meter.model = OFFLINE
        meter.usage = Usage(input=read, estimated=True)
        pause = self._pace * _seconds(text, is_verifying=is_verifying) / _CHUNKS
        written = 0
        for piece in _pieces(text):
            if pause:
                await asyncio.sleep(pause)
            on_text(piece)
            written += len(piece)
            meter.usage = Usage(input=read, output=_tokens(written), estimated=True)
        return ModelReply(text=text, stop_reason="end_turn", usage=meter.usage, model=OFFLINE)


def _seconds(text: str, *, is_verifying: bool) -> float:
    if is_verifying:
        return _VERIFICATION
    # A checksum spreads the durations without making them random.
    return _SHORTEST_DRAFT + _SPREAD * (zlib.crc32(text.encode("utf-8", "replace")) % 1000) / 1000


def _pieces(text: str) -> Iterator[str]:
    size = max(1, -(-len(text) // _CHUNKS))
    for start in range(0, len(text), size):
        yield text[start : start + size]


def _tokens(characters: int) -> int:
    return -(-characters // _CHARACTERS_PER_TOKEN)
