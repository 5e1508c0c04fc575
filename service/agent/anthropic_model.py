"""Claude through Anthropic's SDK, which nothing else in this service touches."""

import asyncio
import importlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import SecretStr

from service.agent.anthropic_catalogue import read_lifecycle
from service.agent.anthropic_failures import (
    ErrorAnswer,
    failure_of,
    misconfigured,
    transient,
)
from service.agent.anthropic_limits import read_limits
from service.agent.anthropic_reply import ReplyReading
from service.domain.errors import ModelFailure, ServiceError
from service.domain.lifecycle import ModelLifecycle
from service.domain.models import KNOWN_MODELS
from service.domain.pricing import cost_usd
from service.domain.usage import Usage, UsageMeter
from service.ports.model import ModelReply, ModelRequest

if TYPE_CHECKING:
    import anthropic
    from anthropic.types import TextBlockParam

DEFAULT_BASE_URL = "https://api.anthropic.com"

_TRANSPORT = "service.agent.anthropic_http"
_MAX_CACHE_MARKS = 4
_DRAIN_SECONDS = 0.5
_REQUEST_OVERHEAD_TOKENS = 200
_BYTES_PER_TOKEN = 3
# Every few characters are an event of their own, with a hundred bytes around them.
_WIRE_BYTES_PER_BYTE = 8


class MissingApiKey(ServiceError):
    """There is no usable key for Anthropic's API."""


class AnthropicModel:
    """Claude: one streamed call per request, never repeated here; times in seconds.

    `today` dates the prices. The SDK is imported by the first call.
    """

    def __init__(
        self,
        api_key: str | None,
        *,
        today: Callable[[], date],
        base_url: str = DEFAULT_BASE_URL,
        connect_timeout: float = 5.0,
        idle_timeout: float = 60.0,
        total_timeout: float = 600.0,
        max_reply_bytes: int = 1024 * 1024,
    ) -> None:
        self._api_key = SecretStr(_checked_key(api_key))
        self._today = today
        self._base_url = base_url
        self._connect_timeout = connect_timeout
        self._idle_timeout = idle_timeout
        self._total_timeout = total_timeout
        self._max_reply_bytes = max_reply_bytes
        self._client: anthropic.AsyncAnthropic | None = None

    @property
    def name(self) -> str:
        """The adapter's name."""
        return "anthropic"

    @property
    def is_limited(self) -> bool:
        """Anthropic limits requests and tokens per minute."""
        return True

    def estimate_input_tokens(self, request: ModelRequest) -> int:
        """Estimate what the call will read, rather too much than too little."""
        texts = (*request.system, request.user)
        size = sum(len(text.encode()) for text in texts) + len(orjson.dumps(request.schema))
        return size // _BYTES_PER_TOKEN + _REQUEST_OVERHEAD_TOKENS

    def cost_usd(self, model: str, usage: Usage) -> Decimal | None:
        """Price one call's usage by today's table."""
        return cost_usd(model, usage, self._today())

    async def complete(
        self, request: ModelRequest, meter: UsageMeter, on_text: Callable[[str], None]
    ) -> ModelReply:
        """Make the call once; `meter` holds what is known of its usage however this ends."""
        client = await self._connected()
        reading = ReplyReading(
            meter, self.estimate_input_tokens(request), on_text, self._max_reply_bytes
        )
        meter.model = request.model
        try:
            async with asyncio.timeout(self._total_timeout) as limit:
                await self._read(client, request, reading)
        except TimeoutError:
            if not limit.expired():
                raise
            message = f"the model took longer than {self._total_timeout:g} s"
            raise transient(message) from None
        return reading.reply()

    async def lifecycle(self, model: str) -> ModelLifecycle | None:
        """Ask what the provider says of a model; None if it offers none of that id.

        Raises `ModelFailure`.
        """
        client = await self._connected()
        try:
            found = await client.models.retrieve(model)
        except _stream_errors() as error:
            if isinstance(error, _sdk().NotFoundError) and error.type == "not_found_error":
                return None
            raise _failure(error) from None
        return read_lifecycle(found)

    async def close(self) -> None:
        """Close idle connections."""
        if self._client is not None:
            await self._client.close()

    async def _connected(self) -> "anthropic.AsyncAnthropic":
        if self._client is None:
            # The import takes seconds; in a thread it does not hold up the event loop.
            await asyncio.to_thread(_import_sdk)
        return self._shared_client()

    def _shared_client(self) -> "anthropic.AsyncAnthropic":
        if self._client is None:
            sdk = _sdk()
            self._client = sdk.AsyncAnthropic(
                api_key=self._api_key.get_secret_value(),
                base_url=self._base_url,
                http_client=_transport().limited_client(
                    _WIRE_BYTES_PER_BYTE * self._max_reply_bytes
                ),
                max_retries=0,
                # Whoever runs the call traces it; Anthropic is told nothing of our traces, and
                # no variable of the SDK's can put prompts into them.
                open_telemetry=False,
                timeout=sdk.Timeout(
                    self._total_timeout,
                    connect=self._connect_timeout,
                    read=self._idle_timeout,
                    write=30.0,
                    pool=10.0,
                ),
            )
        return self._client

    async def _read(
        self, client: "anthropic.AsyncAnthropic", request: ModelRequest, reading: ReplyReading
    ) -> None:
        try:
            stream = await _open_stream(client, request)
        except _transport_errors() as error:
            if _was_never_processed(error):
                reading.meter.usage = Usage()
            if isinstance(error, _sdk().APIStatusError):
                reading.meter.observe(read_limits(error.response.headers))
            raise _failure(error) from None
        async with stream, aclosing(_events(stream)) as events:
            reading.meter.request_id = stream.response.headers.get("request-id")
            reading.meter.observe(read_limits(stream.response.headers))
            async for event in events:
                reading.add(event)
                if reading.is_complete:
                    break
            else:
                raise transient("the model's reply ended before it was complete")
            await _drain(events)


def _checked_key(api_key: str | None) -> str:
    key = (api_key or "").strip()
    if not key:
        raise MissingApiKey("Anthropic's API needs a key: set ANTHROPIC_API_KEY")
    if not key.isascii() or not key.isprintable() or " " in key:
        # Sent anyway, such a key would be quoted in the HTTP library's error.
        raise MissingApiKey("ANTHROPIC_API_KEY has characters that no key has")
    return key


def _import_sdk() -> None:
    for name in ("anthropic.resources.messages", _TRANSPORT):
        importlib.import_module(name)
    for name in ("anthropic", "httpx2", "httpcore2"):
        # What they log below this level includes prompts.
        logging.getLogger(name).setLevel(logging.WARNING)


def _sdk() -> Any:
    return importlib.import_module("anthropic")


def _transport() -> Any:
    return importlib.import_module(_TRANSPORT)


def _http() -> Any:
    return importlib.import_module("httpx2")


async def _open_stream(
    client: "anthropic.AsyncAnthropic", request: ModelRequest
) -> "anthropic.AsyncStream[Any]":
    known = KNOWN_MODELS.get(request.model)
    limit = request.max_output_tokens
    return await client.messages.create(
        model=request.model,
        max_tokens=min(limit, known.max_output) if known else limit,
        system=_system_blocks(request.system),
        messages=[{"role": "user", "content": request.user}],
        output_config={
            "format": {"type": "json_schema", "schema": _sdk().transform_schema(request.schema)}
        },
        stream=True,
        extra_headers={"X-Request-ID": request.on_behalf_of} if request.on_behalf_of else None,
    )


def _system_blocks(texts: tuple[str, ...]) -> "list[TextBlockParam]":
    """Mark the prefixes that other calls share: the widest one, and the most specific ones."""
    blocks: list[TextBlockParam] = [
        {"type": "text", "text": text} for text in texts if text.strip()
    ]
    for block in (*blocks[:1], *blocks[1:][1 - _MAX_CACHE_MARKS :]):
        block["cache_control"] = {"type": "ephemeral"}
    return blocks


async def _events(stream: "anthropic.AsyncStream[Any]") -> AsyncGenerator[Any]:
    try:
        async for event in stream:
            yield event
    except _stream_errors() as error:
        raise _failure(error) from None


async def _drain(events: AsyncIterator[Any]) -> None:
    """Read on to the end, so that the connection can be used again; the reply is complete."""
    with suppress(ModelFailure, TimeoutError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in events:
                continue


def _transport_errors() -> tuple[type[Exception], ...]:
    http = _http()
    return (_sdk().AnthropicError, http.HTTPError, http.StreamError, http.InvalidURL)


def _stream_errors() -> tuple[type[Exception], ...]:
    # A ValueError is an event that cannot be decoded.
    return (*_transport_errors(), ValueError)


def _was_never_processed(error: Exception) -> bool:
    """Whether the call certainly cost nothing: it was refused, or never sent."""
    http = _http()
    unsent = (http.ConnectError, http.ConnectTimeout, http.PoolTimeout, http.UnsupportedProtocol)
    return isinstance(error, _sdk().APIStatusError) or isinstance(error.__cause__, unsent)


def _failure(error: Exception) -> ModelFailure:
    """Translate without quoting: an original message may hold the prompt or a header."""
    if isinstance(error, _sdk().APIStatusError):
        answer = ErrorAnswer(
            status=error.status_code,
            type=error.type,
            code=error.error_code,
            message=error.api_message,
        )
        return failure_of(answer, error.response.headers)
    cause = error.__cause__ or error
    if isinstance(cause, (_http().UnsupportedProtocol, _http().InvalidURL)):
        return misconfigured("the model's address cannot be used")
    return transient(f"the connection to the model failed ({type(cause).__name__})")
