"""The HTTP server below our handlers: what is no request, too large or too slow."""

from asyncio import BaseTransport, TimerHandle, Transport, get_running_loop
from http import HTTPStatus
from typing import Any, Final
from uuid import uuid4

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from service.api.headers import protect
from service.api.problems import INTERNAL_ERROR, Problem, problem_of
from service.telemetry.logs import get_log

_log = get_log(__name__)

_SECONDS_FOR_HEAD = 10.0
# Longer than the proxies in front keep theirs, as a rule, so that they are the ones to close.
_SECONDS_IDLE = 75.0
# Longer than a stream waits for its reader, who is then counted as dropped.
_SECONDS_FOR_READING = 15.0
# How long the rest of a refused body is thrown away, so that its sender reads why; shorter than
# a shutdown waits.
_LINGERING = 3.0
_LONGEST_LINE: Final = 8190
_MOST_HEADERS: Final = 100
# The library repeats an `Expect` that it does not know, even one that is no text.
_MALFORMED: Final = (HttpProcessingError, UnicodeEncodeError)


class Protocol(web.RequestHandler):
    """One connection, which answers also what is no HTTP with a problem document.

    Such a request is one line in the log, which says what kind of error it was and nothing else:
    a broken header may hold a key. A connection whose next request has begun, or whose first is
    awaited, is closed unless all of the request's headers arrive in time; so is one that rests for
    long, or whose answers are not read.
    """

    __slots__ = ("_head_timer", "_reading_timer")

    def __init__(self, server: web.Server) -> None:
        super().__init__(
            server,
            loop=get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # our middleware writes it
            keepalive_timeout=_SECONDS_IDLE,
            lingering_time=_LINGERING,
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_LINE,
            max_headers=_MOST_HEADERS,
        )
        self._head_timer: TimerHandle | None = None
        self._reading_timer: TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._await_head()

    async def start(self) -> None:
        """Answer requests until the connection ends, which a request without an address does."""
        try:
            await super().start()
        except Exception as error:  # noqa: BLE001 - what the library makes no request of
            # Nobody else would close it, or take note of its next request.
            _log.info("malformed_http", error=type(error).__name__)
            self.force_close()

    def data_received(self, data: bytes) -> None:
        """Take what has arrived, and note whether it is a request, or the beginning of one."""
        requests = self._request_count
        super().data_received(data)
        if self._request_count > requests:
            self._await_no_head()
        elif self._waiter is not None and not self._waiter.done():
            self._await_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        self._await_no_head()
        self._await_no_reading()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Begin to wait until what has been answered is read."""
        super().pause_writing()
        if self.transport is not None:
            self._reading_timer = self._loop.call_later(
                _SECONDS_FOR_READING, self._abort_unread, self.transport
            )

    def resume_writing(self) -> None:
        """Note that it has been, but for a little."""
        self._await_no_reading()
        super().resume_writing()

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self._loop.call_later(_SECONDS_FOR_HEAD, self._close_if_slow)

    def _await_no_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _close_if_slow(self) -> None:
        _log.info("slow_http", what="request")
        self.force_close()

    def _await_no_reading(self) -> None:
        if self._reading_timer is not None:
            self._reading_timer.cancel()
            self._reading_timer = None

    def _abort_unread(self, transport: Transport) -> None:
        _log.info("slow_http", what="answer")
        # Closing would wait for what is not read.
        transport.abort()

    def log_exception(self, *_: Any, **kw: Any) -> None:
        """Log an error of ours with its traceback; whoever sends nonsense cannot fill the log."""
        error = kw.get("exc_info")
        if isinstance(error, _MALFORMED):
            _log.info("malformed_http", error=type(error).__name__)
        # The last two come after an answer, while the rest of a body is thrown away.
        elif not isinstance(error, web.RequestPayloadError | ConnectionError):
            _log.error("http_server_failed", exc_info=error)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,  # noqa: ARG002 - part of the contract
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it may repeat the request
    ) -> web.StreamResponse:
        """Answer what never reached our handlers, and close the connection."""
        self.log_exception(exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("a second head would be taken for content of the first answer")
        return _finished(_problem(exc))

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Answer; what the library itself refuses is a problem document, too."""
        if isinstance(resp, web.HTTPException):
            _log.info("malformed_http", error=type(resp).__name__)
            resp = _finished(problem_of(resp))
        return await super().finish_response(request, resp, start_time)


def _problem(error: BaseException | None) -> Problem:
    if isinstance(error, LineTooLong):
        return Problem(
            status=HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            code=HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE.name,
            detail=f"a line of the request's head has more than {_LONGEST_LINE} bytes",
        )
    if isinstance(error, _MALFORMED):
        detail = f"this is no HTTP request, or it has more than {_MOST_HEADERS} headers"
        return Problem(status=HTTPStatus.BAD_REQUEST, code="VALIDATION_ERROR", detail=detail)
    return INTERNAL_ERROR


def _finished(problem: Problem) -> web.Response:
    response = problem.respond("/")
    response.headers["X-Request-ID"] = uuid4().hex
    protect(response)
    response.force_close()
    return response
