"""`usa demo` shows everything and leaves nothing."""

import json
import signal
from itertools import pairwise

import pytest

from service.domain.events import EventId
from tests.fixtures.waiting import eventually
from tests.integration.cli.usa import Usa, processes_using

pytestmark = pytest.mark.timeout(120)


def is_clean(usa: Usa) -> bool:
    """Whether no server, no folder and no key is left."""
    return (
        processes_using(usa.folder) == []
        and list((usa.folder / "tmp").iterdir()) == []
        and not usa.home.exists()
    )


def test_a_story_is_improved_and_who_wrote_it_is_unmistakable(usa: Usa) -> None:
    done = usa.run("demo", "--pace", "0")
    assert done.code == 0, done.err
    assert done.out.startswith("# Save a delivery address\n")
    assert "AC-OUT-3" in done.out
    for said in ("As a returning customer", "security (4 of 4)", "no model was called", "$0"):
        assert said in done.err
    assert "Traceback" not in done.err
    assert is_clean(usa)


def test_machines_get_a_line_per_event_and_nothing_else(usa: Usa) -> None:
    done = usa.run("demo", "--pace", "0", "--workflow", "api", "--json")
    events = done.lines
    assert done.code == 0, done.err
    assert {each["data"]["type"] == each["event"] for each in events} == {True}
    ids = [EventId.parse(each["id"]) for each in events if each["id"]]
    assert all(a and b and a < b for a, b in pairwise(ids))
    assert [each["event"] for each in events].count("complete") == 1
    final = events[-1]["data"]["result"]
    assert final["models"] == ["offline"]
    assert "consolidation" in [each["id"] for each in final["iterations"]]
    assert "responsive-web" not in [each["id"] for each in final["iterations"]]


def test_servers_that_belong_to_something_else_are_left_alone(usa: Usa) -> None:
    away = {"DATABASE_URL": "postgresql://127.0.0.1:1/theirs", "REDIS_URL": "redis://127.0.0.1:1"}
    done = usa.run("demo", "--pace", "0", **away)
    assert done.code == 0, done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["starting Valkey", "user-roles (1 of 4)"])
async def test_a_signal_at_any_time_leaves_nothing_behind(
    usa: Usa, number: signal.Signals, moment: str
) -> None:
    with usa.started("demo", "--pace", "10") as demo:
        await demo.tells(moment)
        demo.send(number)
        done = await demo.ended(within=10)
    assert done.code == 130
    assert done.out == ""
    assert "Traceback" not in done.err
    assert is_clean(usa)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_impatience_leaves_nothing_behind_either(usa: Usa, number: signal.Signals) -> None:
    with usa.started("demo", "--pace", "10") as demo:
        await demo.tells("user-roles (1 of 4)")

        async def ends_at_last() -> bool:
            demo.send(number)
            return demo.has_ended

        await eventually(ends_at_last, within=15, what="it ends")
        done = await demo.ended()
    assert done.code == 130
    assert "Traceback" not in done.err
    assert is_clean(usa)


def test_a_service_that_is_up_here_is_not_touched(usa: Usa) -> None:
    usa.variables["USA_API_URL"] = "http://127.0.0.1:1"
    usa.variables["USA_API_KEY"] = "usa_00000000_of-another-service"
    usa.variables["PORT"] = "1"
    done = usa.run("demo", "--pace", "0", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out.splitlines()[-1])["event"] == "complete"
