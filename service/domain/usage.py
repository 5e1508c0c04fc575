"""Tokens that a model call used."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from service.domain.upstream import Cost, Observed


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or more calls; `input` excludes what the cache read or wrote.

    `estimated` marks output counted by us because the call never finished.
    """

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    estimated: bool = False

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input + other.input,
            self.output + other.output,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
            self.estimated or other.estimated,
        )

    @property
    def total(self) -> int:
        """All tokens, cached ones included."""
        return self.input + self.output + self.cache_read + self.cache_write

    def as_json(self) -> dict[str, Any]:
        """`tokenUsage` as the API shows it."""
        return {
            "input": self.input,
            "output": self.output,
            "cacheRead": self.cache_read,
            "cacheWrite": self.cache_write,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Usage":
        """Read back what `as_json` wrote."""
        return cls(data["input"], data["output"], data["cacheRead"], data["cacheWrite"])


def cost_of(usage: Usage) -> Cost:
    """Return what a call took of its upstream's limits; nothing if it used nothing.

    Input read from the cache does not count, and of the output only what was written.
    Source: Anthropic's documentation of rate limits.
    """
    read = usage.input + usage.cache_write
    return Cost(requests=int(usage.total > 0), input=read, output=usage.output)


class UsageMeter:
    """What a call in flight has used so far, readable at any moment, also after an abort."""

    def __init__(self) -> None:
        self.usage = Usage(estimated=True)
        self.model: str | None = None
        self.request_id: str | None = None
        self.on_limits: Callable[[Observed], None] | None = None

    def observe(self, observed: Observed) -> None:
        """Pass on what an answer says of the upstream's limits, as soon as it is known."""
        if self.on_limits is not None:
            self.on_limits(observed)
