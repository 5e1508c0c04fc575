"""Fifty submissions at once at each limit, and cancellations that meet completions: counted."""

import asyncio
from collections import Counter
from typing import Any
from uuid import UUID

import pytest

from service.bootstrap import create_api_key
from service.bootstrap.administration import change_user_limits
from service.domain.api_keys import Scope
from service.domain.events import EventId
from service.domain.job import JobStatus, Owner
from service.domain.transitions import Complete
from tests.fixtures.database import Observer
from tests.fixtures.deployment import ANN, STORY, Deployment
from tests.fixtures.factories import a_delivery, an_owner, terms

pytestmark = pytest.mark.timeout(180)

AT_ONCE = 50
CANCELLATIONS = 500
# Plans two tokens.
BODY = {"story": STORY, "agent": "sleep", "options": {"steps": 1}}


@pytest.fixture
async def apis(deployment: Deployment) -> list[str]:
    """Two API processes, and no worker: what was accepted stays queued."""
    return [await deployment.start_api(), await deployment.start_api()]


async def key_of(deployment: Deployment, owner: Owner, tier: str, **limits: int | None) -> str:
    """A key of a tier, and its user's own limits."""
    key, _ = await create_api_key(
        deployment.settings,
        owner,
        name="race",
        scopes=[Scope.JOBS_READ, Scope.JOBS_WRITE],
        tier=tier,
        valid_for=None,
    )
    if limits:
        await change_user_limits(deployment.settings, owner, limits, [])
    return key


async def all_at_once(
    deployment: Deployment, apis: list[str], keys: list[str], **headers: str
) -> tuple[Counter[str], list[Any]]:
    """Submit once with each key, in turn through each API: statuses with codes, and bodies."""

    async def submit(place: int, key: str) -> tuple[str, Any]:
        url = f"{apis[place % len(apis)]}/api/v1/jobs"
        sent = deployment.sending(key, **headers)
        async with deployment.session.post(url, json=BODY, headers=sent) as response:
            document = await response.json()
            if response.status == 429:
                assert int(response.headers["Retry-After"]) >= 1
            return f"{response.status} {document.get('code', '')}".strip(), document

    answers = await asyncio.gather(*(submit(*each) for each in enumerate(keys)))
    return Counter(status for status, _ in answers), [document for _, document in answers]


@pytest.mark.parametrize(
    ("tier", "limits", "accepted", "code"),
    [
        ("free", {"requests_per_minute": None}, 1, "CONCURRENT_JOB_LIMIT"),
        ("pro", {"requests_per_minute": None}, 3, "CONCURRENT_JOB_LIMIT"),
        ("unlimited", {"requests_per_day": 7}, 7, "DAILY_QUOTA_EXCEEDED"),
        ("unlimited", {"tokens_per_day": 15}, 7, "DAILY_QUOTA_EXCEEDED"),
        ("unlimited", {"requests_per_minute": 7}, 7, "RATE_LIMIT_EXCEEDED"),
    ],
)
async def test_of_fifty_posts_at_once_exactly_those_within_the_limit_are_accepted(
    deployment: Deployment,
    observer: Observer,
    apis: list[str],
    tier: str,
    limits: dict[str, int | None],
    accepted: int,
    code: str,
) -> None:
    key = await key_of(deployment, ANN, tier, **limits)

    statuses, _ = await all_at_once(deployment, apis, [key] * AT_ONCE)

    assert statuses == {"202": accepted, f"429 {code}": AT_ONCE - accepted}
    assert await observer.value("SELECT count(*) FROM jobs") == accepted
    # Whatever limit was reached, reading and cancelling go on.
    for row in await observer.connection.fetch("SELECT id FROM jobs"):
        await deployment.job(row["id"])
        url = f"{apis[0]}/api/v1/jobs/{row['id']}"
        async with deployment.session.delete(url, headers=deployment.sending(key)) as response:
            assert response.status == 200


async def test_a_full_queue_has_taken_exactly_as_many_as_it_may_from_all_users(
    deployment: Deployment, observer: Observer
) -> None:
    apis = [await deployment.start_api(max_queued=7), await deployment.start_api(max_queued=7)]
    keys = [await key_of(deployment, an_owner(), "unlimited") for _ in range(AT_ONCE)]

    statuses, _ = await all_at_once(deployment, apis, keys)

    assert statuses == {"202": 7, "429 QUEUE_FULL": 43}
    assert await observer.value("SELECT count(*) FROM jobs") == 7


async def test_fifty_posts_at_once_with_one_key_are_one_job(
    deployment: Deployment, observer: Observer, apis: list[str]
) -> None:
    key = await key_of(deployment, ANN, "free", requests_per_minute=None)

    same = {"Idempotency-Key": "order-4711"}
    statuses, documents = await all_at_once(deployment, apis, [key] * AT_ONCE, **same)

    assert statuses == {"202": AT_ONCE}
    [job_id] = {document["job"]["id"] for document in documents}
    assert await observer.value("SELECT id FROM jobs") == UUID(job_id)
    assert await observer.value("SELECT request_count FROM daily_usage") == 1


async def test_cancelling_and_completing_five_hundred_times_has_one_winner_each_time(
    deployment: Deployment, observer: Observer, apis: list[str]
) -> None:
    outcomes: Counter[tuple[int, bool]] = Counter()

    async def race(number: int) -> None:
        job_id = await deployment.submit(agent="noop")
        [claim] = await deployment.stores.attempts.claim([a_delivery(job_id)], terms(lease=60.0))
        url = f"{apis[number % 2]}/api/v1/jobs/{job_id}"
        final = EventId(claim.fence.attempt, 1)

        async def cancel() -> int:
            async with deployment.session.delete(url, headers=deployment.sending()) as response:
                return response.status

        async def complete() -> bool:
            for _ in range(number % 16):  # an HTTP request takes longer than a statement
                await deployment.stores.database.ping()
            recorded = await deployment.stores.attempts.record_if_current(
                claim.fence, Complete({"number": number}), final
            )
            return recorded.applied

        status, is_completed = await asyncio.gather(cancel(), complete())
        outcomes[status, is_completed] += 1
        job = await deployment.stores.attempts.get(job_id)
        assert job is not None
        won = JobStatus.COMPLETED if is_completed else JobStatus.CANCELLED
        assert (job.status, job.result is not None) == (won, is_completed)

    for first in range(0, CANCELLATIONS, 25):
        await asyncio.gather(*(race(number) for number in range(first, first + 25)))

    print(f"\nof {CANCELLATIONS}: {outcomes}")  # noqa: T201 - how the races went is to be read
    assert outcomes[200, False] + outcomes[409, True] == CANCELLATIONS
    assert min(outcomes[200, False], outcomes[409, True]) > 0
    ended = await observer.connection.fetch("SELECT status, count(*) FROM jobs GROUP BY status")
    assert {row["status"]: row["count"] for row in ended} == {
        "cancelled": outcomes[200, False],
        "completed": outcomes[409, True],
    }
