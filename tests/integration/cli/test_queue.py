"""`usa queue` beside a running service: its worker stops taking jobs, and goes on."""

from collections.abc import Iterator

import aiohttp
import pytest

from tests.fixtures.waiting import eventually
from tests.integration.cli.conftest import QUICK, beside_a_service
from tests.integration.cli.usa import Usa

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Usa]:
    """`usa` with the key of a service of its own, which may do everything."""
    with beside_a_service(tmp_path_factory.mktemp("paused"), QUICK) as usa:
        yield usa


async def _metrics(usa: Usa) -> str:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{usa.variables['USA_API_URL']}/metrics") as response,
    ):
        return await response.text()


async def test_a_paused_queue_starts_nothing_until_it_is_resumed(operator: Usa) -> None:
    paused = operator.run("queue", "pause", "--reason", "a test")

    async def has_learned() -> bool:
        return "usa_paused 1.0" in await _metrics(operator)

    await eventually(has_learned, what="the worker learns of it")
    job = operator.submit("--iterations", "security")
    shown, document = operator.run("queue"), operator.run("queue", "--json")
    again = operator.run("queue", "pause", "--json").document
    resumed = operator.run("queue", "resume")
    watched = operator.run("watch", job)

    assert (paused.code, shown.code, resumed.code) == (0, 0, 0)
    assert paused.out.startswith("the queue is paused since ")
    assert paused.out.endswith(": a test\n")
    assert "queue resume" in paused.err
    assert shown.out.startswith(paused.out)
    assert document.document["jobs"]["queued"] == 1
    assert document.document["pause"] == again
    assert operator.run("queue", "show", "--json").code == 0
    assert again["reason"] == "a test"
    assert "{usa}:jobs:again  0" in shown.out
    assert resumed.out == "the queue is not paused\n"
    assert watched.code == 0
    jobs = operator.run("jobs", "--json").document["jobs"]
    assert [(each["status"], each["attempt"]) for each in jobs] == [("completed", 1)]


def test_who_does_not_operate_is_refused(operator: Usa) -> None:
    made = operator.run("keys", "create", "--tenant", "acme", "--user", "ann")
    ann = Usa(operator.folder, {**operator.variables, "USA_API_KEY": made.out.strip()})
    for command in ("show", "pause", "resume"):
        done = ann.run("queue", command)
        assert (done.code, done.out) == (5, "")
        assert "scope admin" in done.err
