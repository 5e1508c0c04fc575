"""HTTP to Anthropic's API with a limit on each answer; only the first call imports it."""

from collections.abc import AsyncIterator

import anthropic
import httpx2

from service.agent.anthropic_failures import transient


class _Limited(httpx2.AsyncByteStream):
    """An answer's body that fails once it is longer than allowed."""

    def __init__(self, body: httpx2.AsyncByteStream, max_bytes: int) -> None:
        self._body = body
        self._max_bytes = max_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = 0
        async for piece in self._body:
            received += len(piece)
            if received > self._max_bytes:
                raise transient(f"the model sent more than {self._max_bytes} bytes")
            yield piece

    async def aclose(self) -> None:
        await self._body.aclose()


def limited_client(max_bytes: int) -> httpx2.AsyncClient:
    """Open a client whose answers are at most so long, as they are on the wire.

    Without it one endless line or error page would be collected in memory, in quadratic time.
    """

    async def limit(response: httpx2.Response) -> None:
        if isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = _Limited(response.stream, max_bytes)

    return anthropic.DefaultAsyncHttpxClient(event_hooks={"response": [limit]})
