"""What the headers of an answer of Anthropic's API say of its rate limits."""

from collections.abc import Mapping

from service.domain.upstream import Observed, Rates

_PREFIX = "anthropic-ratelimit"


def read_limits(headers: Mapping[str, str]) -> Observed:
    """Return the limits per minute and what is left of them; None for what is not said."""
    return Observed(limits=_rates(headers, "limit"), remaining=_rates(headers, "remaining"))


def _rates(headers: Mapping[str, str], what: str) -> Rates:
    return Rates(
        requests=_count(headers.get(f"{_PREFIX}-requests-{what}")),
        input=_count(headers.get(f"{_PREFIX}-input-tokens-{what}")),
        output=_count(headers.get(f"{_PREFIX}-output-tokens-{what}")),
    )


def _count(text: str | None) -> float | None:
    return float(text) if text and text.isascii() and text.isdigit() and len(text) < 16 else None
