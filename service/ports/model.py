"""Language models behind adapters."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from service.domain.job import JsonObject
from service.domain.usage import Usage, UsageMeter


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One call to a language model.

    `system` blocks go from the most widely shared to the most specific, so that an adapter
    can cache the prefix; `subject` says the same as the prose, for adapters that do not read.
    `on_behalf_of` is the id of the request that submitted the job; whoever runs the call sets it.
    """

    purpose: str
    model: str
    system: tuple[str, ...]
    user: str
    schema: JsonObject
    max_output_tokens: int
    subject: JsonObject
    on_behalf_of: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReply:
    """A finished call: the whole text, why it stopped, and what it used."""

    text: str
    stop_reason: str
    usage: Usage
    model: str
    request_id: str | None = None


class Model(Protocol):
    """A language model behind an adapter."""

    @property
    def name(self) -> str:
        """The adapter's name: `anthropic` or `offline`."""
        ...

    @property
    def is_limited(self) -> bool:
        """Whether its calls count against an upstream's rate limits."""
        ...

    def estimate_input_tokens(self, request: ModelRequest) -> int:
        """Estimate what the call will read, before it is made."""
        ...

    def cost_usd(self, model: str, usage: Usage) -> Decimal | None:
        """Price the usage by today's table; None when the price is unknown, never 0."""
        ...

    async def complete(
        self, request: ModelRequest, meter: UsageMeter, on_text: Callable[[str], None]
    ) -> ModelReply:
        """Make the call once, without retries, feeding text as it comes.

        Keeps `meter` up to date so that an aborted call can be booked; raises `ModelFailure`.
        Cancelling the task closes the connection.
        """
        ...
