"""`usa doctor` tells a person and a script what is wrong, wherever it is run."""

from typing import Any

import pytest

from service.cli.exit_codes import ExitCode
from tests.integration.cli.usa import Done, Usa

pytestmark = pytest.mark.timeout(120)

NOBODY = {
    "REDIS_URL": "redis://:hush-hush@127.0.0.1:1",
    "DATABASE_URL": "postgresql://usa:hush-hush@127.0.0.1:1/usa",
}


def checks(done: Done) -> dict[str, dict[str, Any]]:
    return {each["check"]: each for each in done.document["checks"]}


def test_beside_a_service_that_is_up_it_looks_at_its_servers(service: Usa) -> None:
    done = service.run("doctor")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert {line.split()[0] for line in lines} == {"ok"}
    assert any("PostgreSQL" in line for line in lines)
    assert any("offline" in line for line in lines)


def test_as_json_it_is_one_document(service: Usa) -> None:
    done = service.run("doctor", "--json")
    assert done.code == 0
    assert done.document["healthy"] is True
    found = checks(done)
    assert set(found["schema"]) == {"check", "status", "message", "advice"}
    assert found["redis persistence"]["status"] == "ok"


def test_where_nothing_is_set_and_nothing_runs_it_says_what_to_set(usa: Usa) -> None:
    done = usa.run("doctor")
    assert (done.code, ExitCode.UNHEALTHY.value) == (11, 11)
    for said in ("DATABASE_URL", "REDIS_URL", "`usa up`", "ANTHROPIC_API_KEY"):
        assert said in done.out
    assert not usa.home.exists()


def test_servers_that_do_not_answer_are_told_with_what_to_check(usa: Usa) -> None:
    done = usa.run("doctor", "--json", USA_MODEL="offline", **NOBODY)
    assert done.code == 11
    assert done.document["healthy"] is False
    found = checks(done)
    assert found["postgres"]["advice"] == "check DATABASE_URL"
    assert found["redis"]["advice"] == "check REDIS_URL"
    assert found["model"]["status"] == "ok"
    assert "hush-hush" not in done.out + done.err


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"USA_LEASE": "1"}, "USA_LEASE (1)"),
        ({"PORT": "x", "USA_BLOCK": "-1"}, "USA_BLOCK"),
        ({"DATABASE_URL": "hush-hush"}, "DATABASE_URL"),
        ({"USA_DATABASE_URL": "hush-hush", "USA_LEASE": "x"}, "USA_LEASE"),
    ],
)
def test_a_wrong_setting_is_told_and_hides_nothing(
    usa: Usa, variables: dict[str, str], said: str
) -> None:
    done = usa.run("doctor", "--json", **{**NOBODY, "USA_MODEL": "offline", **variables})
    found = checks(done)
    assert done.code == 11
    assert found["settings"]["status"] == "failed"
    assert said in found["settings"]["message"]
    assert "Redis is unavailable" in found["redis"]["message"]
    assert found["model"]["status"] == "ok"
    assert "hush-hush" not in done.out + done.err


def test_it_says_one_line_for_each_check(usa: Usa) -> None:
    as_text = usa.run("doctor", USA_LEASE="1", PORT="x")
    as_json = usa.run("doctor", "--json", USA_LEASE="1", PORT="x")
    assert len(as_text.out.splitlines()) == len(as_json.document["checks"])
