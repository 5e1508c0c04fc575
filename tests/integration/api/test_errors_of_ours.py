"""What we do wrong is told to the operator in full and to the caller not at all."""

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from service.api.middleware import add_headers, observe
from tests.fixtures.api import PortServer
from tests.integration.api.exchanges import Log, assert_protected, logged


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Log]:
    with logged(monkeypatch, caplog) as hearing:
        yield hearing


async def break_down(request: web.Request) -> web.StreamResponse:
    """Fail before anything is answered."""
    raise RuntimeError("canary")


async def break_off(request: web.Request) -> web.StreamResponse:
    """Fail in the middle of an answer."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"begun")
    raise RuntimeError("canary")


@pytest.fixture
async def client(log: Log) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    app = web.Application(middlewares=(observe,))
    app.on_response_prepare.append(add_headers)
    app.router.add_get("/down", break_down)
    app.router.add_get("/off", break_off)
    async with TestClient(TestServer(app)) as made:
        yield made


async def test_a_failure_is_logged_once_and_shows_nothing_of_itself(
    client: TestClient[web.Request, web.Application], log: Log
) -> None:
    async with client.get("/down") as response:
        body = await response.text()
        assert (response.status, response.content_type) == (500, "application/problem+json")
        assert "INTERNAL_ERROR" in body
        assert "canary" not in body
        [line] = log.requests()
        assert line["request_id"] == response.headers["X-Request-ID"]
    assert (line["status"], line["code"], line["log_level"]) == (500, "INTERNAL_ERROR", "error")
    assert str(line["exc_info"]) == "canary"
    assert log.library.records == []


async def test_an_answer_that_has_begun_is_cut_off_instead_of_being_mixed_up(
    client: TestClient[web.Request, web.Application], log: Log
) -> None:
    with pytest.raises(aiohttp.ClientError):
        async with client.get("/off") as response:
            await response.read()
    [line] = log.requests()
    assert (line["status"], line["code"]) == (500, "INTERNAL_ERROR")
    assert str(line["exc_info"]) == "canary"


@pytest.fixture
async def bare(log: Log) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    """Handlers around which nothing of ours stands."""
    app = web.Application()
    app.router.add_get("/down", break_down)
    app.router.add_get("/off", break_off)
    async with TestClient(PortServer(app)) as made:
        yield made


async def test_a_failure_that_nobody_has_caught_is_a_problem_and_one_line(
    bare: TestClient[web.Request, web.Application], log: Log
) -> None:
    async with bare.get("/down") as response:
        assert (response.status, response.content_type) == (500, "application/problem+json")
        assert "canary" not in await response.text()
        assert_protected(response.headers)
    [line] = log.lines
    assert (line["event"], line["log_level"]) == ("http_server_failed", "error")
    assert str(line["exc_info"]) == "canary"
    assert log.library.records == []


async def test_a_failure_that_nobody_has_caught_in_an_answer_cuts_it_off(
    bare: TestClient[web.Request, web.Application], log: Log
) -> None:
    async with bare.get("/off") as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()
    assert [line["event"] for line in log.lines] == ["http_server_failed"]
