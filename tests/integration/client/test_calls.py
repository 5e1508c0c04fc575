"""Calls end with an answer of this service or an error that says what happened."""

from uuid import UUID

import orjson
import pytest

from service.client.api_client import ApiClient
from service.client.errors import ApiProblem, UnexpectedReply, Unreachable
from tests.integration.client.conftest import KEY
from tests.integration.client.misbehaving import (
    Behaviour,
    MisbehavingServer,
    drops,
    hangs,
    refuses,
    says,
    streams,
)

JOB = UUID("01a21088-29e1-77e7-bdbc-91ca6407d65d")
AWAY = refuses(503, "UNAVAILABLE", Retry_After="0")


async def test_a_submission_carries_what_was_asked_and_nothing_else(
    server: MisbehavingServer, client: ApiClient
) -> None:
    server.plays(says(202, {"job": {"id": str(JOB)}}))

    accepted = await client.submit("é", iterations=("security",), options={"verify": False})
    await client.submit("a", mode="workflow")

    first, second = server.seen
    assert accepted["job"]["id"] == str(JOB)
    assert (first.method, first.path) == ("POST", "/api/v1/jobs")
    assert orjson.loads(first.body) == {
        "story": "é",
        "iterations": ["security"],
        "options": {"verify": False},
    }
    assert orjson.loads(second.body) == {"story": "a", "mode": "workflow"}
    assert first.headers["Authorization"] == f"Bearer {KEY}"
    assert first.headers["Content-Type"] == "application/json"
    assert first.headers["Idempotency-Key"] != second.headers["Idempotency-Key"]


@pytest.mark.parametrize(
    "trouble",
    [drops, AWAY, refuses(409, "IDEMPOTENCY_CONFLICT", Retry_After="0")],
    ids=["dropped", "503", "in flight"],
)
async def test_a_submission_is_repeated_under_the_same_key_until_it_is_answered(
    server: MisbehavingServer, client: ApiClient, troubles: list[str], trouble: Behaviour
) -> None:
    server.plays(trouble, says(202, {"job": {}}))

    await client.submit("a", idempotency_key="mine")

    assert [seen.headers["Idempotency-Key"] for seen in server.seen] == ["mine"] * 2
    assert len({seen.body for seen in server.seen}) == 1
    assert len(troubles) == 1
    assert "trying again" in troubles[0]


async def test_a_purge_is_asked_for_and_repeated_until_it_is_answered(
    server: MisbehavingServer, client: ApiClient
) -> None:
    purged = {"id": str(JOB), "status": "purged"}
    server.plays(AWAY, says(200, purged))

    assert await client.purge(JOB) == purged

    asked = {(seen.method, seen.path) for seen in server.seen}
    assert asked == {("DELETE", f"/api/v1/jobs/{JOB}?purge=true")}
    assert len(server.seen) == 2


async def test_listing_asks_for_what_was_given(
    server: MisbehavingServer, client: ApiClient
) -> None:
    server.plays(says(200, {"jobs": []}))
    await client.list_jobs()
    await client.list_jobs(status="failed", limit=5, cursor="a/b+c=")
    assert [seen.path for seen in server.seen] == [
        "/api/v1/jobs?limit=20",
        "/api/v1/jobs?status=failed&limit=5&cursor=a/b%2Bc%3D",
    ]


async def test_a_service_below_a_path_is_found(server: MisbehavingServer) -> None:
    server.plays(says(200, {}))
    for base in ("/stories", "/stories/"):
        async with ApiClient(server.address + base, KEY) as client:
            await client.cancel(JOB)
    assert {seen.path for seen in server.seen} == {f"/stories/api/v1/jobs/{JOB}"}


async def test_markdown_is_asked_for_and_read(server: MisbehavingServer, client: ApiClient) -> None:
    server.plays(says(200, "# é".encode(), "text/markdown"))
    assert await client.result_markdown(JOB) == "# é"
    assert server.seen[0].headers["Accept"] == "text/markdown"


@pytest.mark.parametrize(
    ("behaviour", "what"),
    [
        (says(200, b"<html>Sign in</html>", "text/html"), "it sent text/html"),
        (says(200, b"{"), "its answer is not JSON"),
        (says(200, []), "its answer is not an object"),
        (says(204), "does not answer like this service"),
        (says(301, b"", Location="https://elsewhere.example/"), "redirects to https://elsewhere"),
        (says(304), "redirects to nowhere"),
        (says(404, b"<html>nginx</html>", "text/html"), "404 without a reason"),
        (says(405, b"{}"), "405 without a reason"),
    ],
)
async def test_another_server_than_this_service_is_told_from_it(
    server: MisbehavingServer, client: ApiClient, behaviour: Behaviour, what: str
) -> None:
    server.plays(behaviour)
    with pytest.raises(UnexpectedReply, match=what):
        await client.get(JOB)
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 429, 500])
async def test_a_refusal_is_final(
    server: MisbehavingServer, client: ApiClient, status: int
) -> None:
    server.plays(refuses(status, "SOME_CODE", Retry_After="9"))
    with pytest.raises(ApiProblem) as refused:
        await client.cancel(JOB)
    assert (refused.value.status, refused.value.code) == (status, "SOME_CODE")
    assert refused.value.retry_after == 9.0
    assert len(server.seen) == 1


async def test_an_error_without_a_problem_document_keeps_its_status(
    server: MisbehavingServer, client: ApiClient
) -> None:
    server.plays(says(500, b"<html>oops</html>", "text/html"))
    with pytest.raises(ApiProblem, match="HTTP_500: Internal Server Error"):
        await client.get(JOB)


async def test_a_proxy_without_a_server_behind_it_is_waited_for(
    server: MisbehavingServer, client: ApiClient
) -> None:
    server.plays(says(502, b"<html>Bad gateway</html>", "text/html"), AWAY, says(200, {"id": "x"}))
    assert (await client.get(JOB))["id"] == "x"
    assert len(server.seen) == 3


async def test_a_job_is_waited_for_until_it_ends_whatever_happens_meanwhile(
    server: MisbehavingServer, client: ApiClient
) -> None:
    too_many = refuses(429, "RATE_LIMIT_EXCEEDED", Retry_After="0")
    still = says(200, {"id": "x", "status": "processing"})
    server.plays(still, AWAY, still, too_many, drops, says(200, {"id": "x", "status": "failed"}))

    assert (await client.wait(JOB, within=20))["status"] == "failed"

    assert len(server.seen) == 6
    asked = {(seen.method, seen.path) for seen in server.seen}
    assert asked == {("GET", f"/api/v1/jobs/{JOB}?wait=20")}


async def test_a_wait_ends_when_the_caller_wants_it_to(
    server: MisbehavingServer, client: ApiClient
) -> None:
    server.plays(says(200, {"id": "x", "status": "queued"}), hangs)
    with pytest.raises(TimeoutError):
        await client.wait(JOB, within=0.2)
    assert len(server.seen) == 2


async def test_patience_ends(server: MisbehavingServer, client: ApiClient) -> None:
    server.plays(AWAY)
    with pytest.raises(ApiProblem, match="UNAVAILABLE"):
        await client.get(JOB)
    assert len(server.seen) > 1


async def test_a_wait_longer_than_the_patience_is_not_begun(
    server: MisbehavingServer, client: ApiClient
) -> None:
    server.plays(refuses(503, "UNAVAILABLE", Retry_After="60"))
    with pytest.raises(ApiProblem) as refused:
        await client.get(JOB)
    assert refused.value.retry_after == 60.0
    assert len(server.seen) == 1


async def test_an_answer_that_was_cut_is_asked_for_again(
    server: MisbehavingServer, client: ApiClient
) -> None:
    cut = streams(b'{"id"', then="abort", content_type="application/json")
    server.plays(cut, says(200, {"id": "x"}))
    assert (await client.get(JOB))["id"] == "x"


async def test_nobody_listening_is_final_and_says_so(server: MisbehavingServer) -> None:
    await server.stop()
    async with ApiClient(server.address, KEY) as client:
        with pytest.raises(Unreachable) as refused:
            await client.get(JOB)
    assert str(refused.value) == f"cannot reach {server.address}: Connection refused"
    assert not refused.value.was_sent


async def test_a_name_that_nobody_has_is_told_as_that() -> None:
    async with ApiClient("http://nobody.invalid", KEY) as client:
        with pytest.raises(Unreachable, match=r"cannot reach http://nobody\.invalid: \w+"):
            await client.get(JOB)


@pytest.mark.parametrize(
    "base",
    ["localhost:3000", "ftp://localhost", "http://", "/api", "", "http://u:p@localhost"],
)
def test_a_base_url_that_is_none_is_refused_at_once(base: str) -> None:
    with pytest.raises(ValueError, match=r"[Uu][Rr][Ll]"):
        ApiClient(base, KEY)


async def test_a_client_that_was_not_opened_makes_no_call() -> None:
    with pytest.raises(RuntimeError, match="context manager"):
        await ApiClient("http://localhost", KEY).get(JOB)
