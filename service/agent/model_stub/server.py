"""The stub's HTTP server."""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import orjson
from aiohttp import web

from service.agent.model_stub.catalogue import Catalogue
from service.agent.model_stub.faults import Fault, FaultKind, FaultPlan, error_type_of
from service.agent.model_stub.ledger import Ledger, StubCall
from service.agent.model_stub.prompt_cache import PromptCache, count_tokens
from service.agent.model_stub.rate_limit import RateLimiter
from service.agent.model_stub.rules import Rejection, check_body, check_headers
from service.agent.model_stub.script import (
    Ending,
    Frame,
    Reply,
    Script,
    write_script,
)
from service.agent.model_stub.writer import Writer, write_reply
from service.domain.job import JsonObject
from service.domain.upstream import Cost, Rates
from service.domain.usage import Usage, cost_of

_CATALOGUE_REQUEST = "req_catalogue"
_NO_LIMITS = Rates()
_NO_HEADERS: Mapping[str, str] = {}

_MAX_BODY = 32 * 1024 * 1024


class ModelStub:
    """A local stand-in for the Messages API, with scripted faults and a ledger.

    `pause` is the time between pieces of text, in seconds. Queued faults come before those of
    `plan`. Without `api_key`, any key is accepted.
    """

    def __init__(
        self,
        *,
        writer: Writer = write_reply,
        plan: FaultPlan | None = None,
        pause: float = 0.0,
        piece_length: int = 40,
        api_key: str | None = None,
        ledger_path: Path | None = None,
        limits: Rates = _NO_LIMITS,
    ) -> None:
        self._writer = writer
        self._plan = plan
        self._pause = pause
        self._piece_length = piece_length
        self._api_key = api_key
        self._ledger = Ledger(ledger_path)
        self._cache = PromptCache()
        self._limiter = RateLimiter(limits)
        self._queue: deque[Fault | None] = deque()
        self.catalogue = Catalogue()
        self._stopping = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self.address = ""

    @property
    def calls(self) -> list[StubCall]:
        """Every request so far, in the order of arrival."""
        return self._ledger.calls

    def queue_faults(self, *faults: Fault | None) -> None:
        """Let the next calls go wrong, one each; None lets one through."""
        self._queue.extend(faults)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen, on any free port by default, and return the address."""
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_post("/v1/messages", self._messages)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/v1/models/{id}", self._models)
        # Cancelled handlers are how the stub notices at once that a client has gone.
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        bound = self._runner.addresses[0]
        self.address = f"http://{bound[0]}:{bound[1]}"
        return self.address

    async def stop(self) -> None:
        """End every call and stop listening."""
        self._stopping.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _models(self, request: web.Request) -> web.Response:
        model = request.match_info.get("id")
        answer: JsonObject | Rejection | None = check_headers(request.headers, self._api_key)
        if answer is None and model is None:
            answer = self.catalogue.page(request.query)
        elif answer is None:
            answer = self.catalogue.find(model or "")
        if isinstance(answer, Rejection):
            return _refusal(answer, _CATALOGUE_REQUEST)
        return web.json_response(answer, headers={"request-id": _CATALOGUE_REQUEST})

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        peer = request.transport.get_extra_info("peername") if request.transport else None
        headers = {name.lower(): value for name, value in request.headers.items()}
        call = self._ledger.open(headers, peer[1] if peer else 0)
        try:
            return await self._answer(request, call)
        except (asyncio.CancelledError, ConnectionResetError):
            call.closed_early = True
            raise
        finally:
            self._ledger.close(call)

    async def _answer(self, request: web.Request, call: StubCall) -> web.StreamResponse:
        rejection = await self._read(request, call)
        if rejection is not None:
            return _reject(call, rejection)
        wait = self._limiter.wait(call.body["model"])
        if wait:
            rejection = Rejection(429, "rate_limit_error", "This would exceed your rate limit.")
            limits = self._limiter.headers(call.body["model"])
            return _reject(call, rejection, str(math.ceil(wait)), limits)
        fault = self._queue.popleft() if self._queue else self._plan and self._plan(call.body)
        call.fault = fault.kind if fault else None
        if fault and fault.kind is FaultKind.REJECT:
            rejection = Rejection(
                fault.status, error_type_of(fault), fault.message, fault.error_code
            )
            return _reject(call, rejection, fault.retry_after)
        if fault and fault.kind is FaultKind.NOT_A_STREAM:
            call.status = 200
            return web.Response(
                text="<html>Sign in to the network</html>", content_type="text/html"
            )
        if fault and fault.after is None and fault.kind in _ENDINGS:
            return await self._end(request, web.StreamResponse(), _ENDINGS[fault.kind])
        return await self._play(request, call, fault)

    async def _read(self, request: web.Request, call: StubCall) -> Rejection | None:
        try:
            body = orjson.loads(await request.read())
        except web.HTTPRequestEntityTooLarge:
            return Rejection(413, "request_too_large", "Request exceeds the maximum size")
        except orjson.JSONDecodeError:
            return Rejection(400, "invalid_request_error", "The request body is not valid JSON")
        rejection = check_headers(request.headers, self._api_key) or check_body(body)
        call.body = body if isinstance(body, dict) else {}
        return rejection

    async def _play(
        self, request: web.Request, call: StubCall, fault: Fault | None
    ) -> web.StreamResponse:
        key = request.headers.get("authorization", request.headers.get("x-api-key", ""))
        prompt = self._cache.read(call.body, key)
        self._limiter.charge(call.body["model"], cost_of(prompt))
        reply = Reply(
            id=call.id.replace("req_", "msg_"),
            model=call.body["model"],
            prompt=prompt,
            text=self._writer(call.body),
        )
        script = write_script(reply, fault, self._piece_length, self._pause)
        response = web.StreamResponse(
            headers={
                "content-type": "text/event-stream; charset=utf-8",
                "request-id": call.id,
                **self._limiter.headers(call.body["model"]),
            }
        )
        call.status = 200
        await response.prepare(request)
        await self._send(response, call, script, prompt)
        call.completed = script.completes
        return await self._end(request, response, script.ending)

    async def _send(
        self, response: web.StreamResponse, call: StubCall, script: Script, prompt: Usage
    ) -> None:
        characters = 0
        for frame in script.frames:
            await _wait(frame)
            await response.write(frame.data)
            characters += len(frame.text)
            before, call.billed = call.billed, prompt + Usage(output=count_tokens(characters))
            # Limits of output are those of the moment, not of the answer's end.
            produced = call.billed.output - before.output
            self._limiter.charge(call.body["model"], Cost(output=produced))

    async def _end(
        self, request: web.Request, response: web.StreamResponse, ending: Ending
    ) -> web.StreamResponse:
        if ending is Ending.STALL:
            await self._stopping.wait()
        if ending is not Ending.END and request.transport is not None:
            request.transport.abort()
        return response


_ENDINGS = {FaultKind.STALL: Ending.STALL, FaultKind.ABORT: Ending.ABORT}


async def _wait(frame: Frame) -> None:
    if frame.pause:
        await asyncio.sleep(frame.pause)


def _reject(
    call: StubCall,
    rejection: Rejection,
    retry_after: str | None = None,
    headers: Mapping[str, str] = _NO_HEADERS,
) -> web.StreamResponse:
    call.status = rejection.status
    response = _refusal(rejection, call.id)
    response.headers.update(headers)
    if retry_after is not None:
        response.headers["retry-after"] = retry_after
    return response


def _refusal(rejection: Rejection, request_id: str) -> web.Response:
    error: JsonObject = {"type": rejection.error_type, "message": rejection.message}
    if rejection.error_code is not None:
        error["details"] = {"error_code": rejection.error_code}
    return web.json_response(
        {"type": "error", "error": error, "request_id": request_id},
        status=rejection.status,
        headers={"request-id": request_id},
    )


async def serve(
    host: str, port: int, stub: ModelStub, on_ready: Callable[[str], None] | None = None
) -> None:
    """Run a stub until this task is cancelled; `on_ready` is told its address."""
    address = await stub.start(host, port)
    if on_ready is not None:
        on_ready(address)
    try:
        await asyncio.Event().wait()
    finally:
        await stub.stop()
