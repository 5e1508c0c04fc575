"""`usa limits` beside a running service."""

from typing import Any

import orjson
import pytest
from pydantic.alias_generators import to_camel

from service.domain.tiers import LIMITS
from tests.integration.cli.usa import Done, Usa

pytestmark = pytest.mark.timeout(120)


def of(user: str) -> tuple[str, ...]:
    return ("--tenant", "acme", "--user", user)


def overrides(service: Usa, user: str) -> list[dict[str, Any]]:
    shown = service.run("limits", "show", *of(user), "--json").document["limits"]
    assert {(each["tenantId"], each["userId"]) for each in shown} <= {("acme", user)}
    return [each["overrides"] for each in shown]


def change(service: Usa, user: str, *options: str) -> Done:
    done = service.run("limits", "set", *of(user), *options)
    assert done.code == 0, done.err
    return done


def test_limits_are_set_one_by_one_and_the_others_stay(service: Usa) -> None:
    assert overrides(service, "ann") == []
    change(service, "ann", "--tokens-per-day", "2000000", "--concurrent-jobs", "none")
    change(service, "ann", "--concurrent-jobs", "0", "--story-bytes", "100")
    assert overrides(service, "ann") == [
        {"tokensPerDay": 2_000_000, "concurrentJobs": 0, "storyBytes": 100}
    ]


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_every_limit_can_be_set(service: Usa, name: str) -> None:
    change(service, "hal", f"--{name.replace('_', '-')}", "2")
    assert overrides(service, "hal")[0][to_camel(name)] == 2


def test_who_set_which_limits_is_on_record(service: Usa) -> None:
    said = change(
        service, "gil", "--story-bytes", "100", "--open-waits", "none", "--open-streams", "tier"
    )
    record = orjson.loads(said.err)
    assert (record["event"], record["action"]) == ("audit", "limits.set")
    assert (record["tenant"], record["user"]) == ("acme", "gil")
    assert record["limits"] == {"story_bytes": 100, "open_waits": None, "open_streams": "tier"}


def test_a_limit_is_taken_from_the_tier_again(service: Usa) -> None:
    change(service, "bob", "--requests-per-day", "tier")
    assert overrides(service, "bob") == []
    change(service, "bob", "--requests-per-day", "7", "--requests-per-minute", "none")
    change(service, "bob", "--requests-per-day", "tier")
    assert overrides(service, "bob") == [{"requestsPerMinute": None}]


def test_what_differs_is_shown_of_those_asked_for(service: Usa) -> None:
    set_to = change(service, "cid", "--tokens-per-day", "2000000", "--requests-per-minute", "none")
    change(service, "dan", "--iterations-per-job", "12")

    shown = service.run("limits", "show", *of("cid"))

    assert shown.out == set_to.out
    heading, row = shown.out.splitlines()
    assert heading.startswith("TENANT  USER  REQUESTS PER DAY  TOKENS PER DAY  REQUESTS PER MINUTE")
    assert row.split() == ["acme", "cid", "-", "2,000,000", "none", *["-"] * (len(LIMITS) - 3)]
    assert {"cid", "dan"} <= set(service.run("limits", "show").out.split())


def test_all_are_cleared_at_once(service: Usa) -> None:
    change(service, "eve", "--tokens-per-day", "5")
    cleared, again = (service.run("limits", "clear", *of("eve")) for _ in range(2))
    assert (cleared.code, cleared.out) == (0, "eve of acme has the limits of the tier again\n")
    assert (again.code, again.out) == (0, "")
    assert service.run("limits", "clear", *of("eve"), "--json").document["cleared"] is False
    none = service.run("limits", "show", *of("eve"))
    assert (none.code, none.out) == (0, "")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "--requests-per-day"),
        (["--tokens-per-day", "many"], "--tokens-per-day"),
        (["--tokens-per-day", "-1"], "0 to 1000000000000"),
        (["--tokens-per-day", "9" * 5000], "0 to 1000000000000"),
        (["--requests-per-minute", "0"], "1 to"),
        (["--story-bytes", "51201"], "1 to 51200"),
        (["--iterations-per-job", "13"], "1 to 12"),
    ],
)
def test_a_limit_that_makes_no_sense_is_told(service: Usa, options: list[str], told: str) -> None:
    done = service.run("limits", "set", *of("fay"), *options, COLUMNS="200")
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert overrides(service, "fay") == []


def test_whom_they_are_for_has_them(service: Usa) -> None:
    change(service, "gil", "--tokens-per-day", "12345", "--concurrent-jobs", "none")
    made = service.run("keys", "create", *of("gil"), "--tier", "pro")
    gil = Usa(service.folder, {**service.variables, "USA_API_KEY": made.out.strip()})

    quota = gil.run("usage", "--json").document["quota"]

    assert (quota["tokensPerDay"]["limit"], quota["concurrentJobs"]["limit"]) == (12345, None)
    assert quota["requestsPerDay"]["limit"] == 500
