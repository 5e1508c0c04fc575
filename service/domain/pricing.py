"""What model calls cost, by a table of dated prices."""

import re
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from service.domain.usage import Usage

_SNAPSHOT = re.compile(r"-20\d{6}$")
_SINCE_RELEASE = date.min


@dataclass(frozen=True, slots=True)
class Rates:
    """USD per million tokens; `cache_write` is for entries that live five minutes."""

    input: Decimal
    output: Decimal
    cache_write: Decimal
    cache_read: Decimal


@dataclass(frozen=True, slots=True)
class Price:
    """Rates from a day on; a prompt of more than `long_prompt` tokens pays `long_rates` for all."""

    model: str
    since: date
    rates: Rates
    long_prompt: int | None = None
    long_rates: Rates | None = None

    def rates_for(self, prompt_tokens: int) -> Rates:
        """Return the rates of the tier that the prompt falls into."""
        if self.long_prompt is None or self.long_rates is None:
            return self.rates
        return self.long_rates if prompt_tokens > self.long_prompt else self.rates


def _rates(given: str) -> Rates:
    return Rates(*map(Decimal, given.split()))


# A change of price is a new line; the old one still prices the calls of its days.
#               model                since                 input output cache_write cache_read
PRICES: tuple[Price, ...] = (
    Price(
        "claude-haiku-5-5",
        date(2026, 10, 7),
        _rates("0.10 0.50 0.125 0.01"),
        long_prompt=100_000,
        long_rates=_rates("0.50 2.50 0.625 0.05"),
    ),
    Price("claude-sonnet-5-5", _SINCE_RELEASE, _rates("2 10 2.50 0.20")),
    Price("claude-sonnet-5-5", date(2026, 10, 7), _rates("2 10 2.50 0.10")),
    Price("claude-opus-5-5", _SINCE_RELEASE, _rates("4 20 5 0.20")),
    Price("claude-fable-5-1", _SINCE_RELEASE, _rates("10 50 12.50 0.25")),
    Price("claude-sonnet-4-5", _SINCE_RELEASE, _rates("3 15 3.75 0.30")),
)


def cost_usd(model: str, usage: Usage, on: date) -> Decimal | None:
    """Price one call exactly, or None if no price is known for that model and day.

    Only for single calls: a sum of calls would fall into the wrong tier.
    """
    price = _price_on(_SNAPSHOT.sub("", model), on)
    if price is None:
        return None
    rates = price.rates_for(usage.input + usage.cache_read + usage.cache_write)
    millionths = (
        usage.input * rates.input
        + usage.output * rates.output
        + usage.cache_write * rates.cache_write
        + usage.cache_read * rates.cache_read
    )
    return millionths.scaleb(-6)


def _price_on(model: str, on: date) -> Price | None:
    valid = [price for price in PRICES if price.model == model and price.since <= on]
    return max(valid, key=lambda price: price.since, default=None)
