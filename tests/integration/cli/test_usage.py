"""`usa usage` beside a running service."""

import pytest

from tests.integration.cli.usa import STORY, Usa

pytestmark = pytest.mark.timeout(120)


def of_user(service: Usa, user: str, *options: str) -> Usa:
    """`usa` with a new key of that user."""
    made = service.run("keys", "create", "--tenant", "acme", "--user", user, *options)
    assert made.code == 0, made.err
    return Usa(service.folder, {**service.variables, "USA_API_KEY": made.out.strip()})


def test_todays_use_and_what_remains_of_each_limit_are_shown(service: Usa) -> None:
    ann = of_user(service, "ann", "--tier", "pro")
    before = ann.run("usage", "--json").document
    assert ann.run("submit", "-", "--iterations", "security", "-f", story=STORY).code == 0

    shown, after = ann.run("usage"), ann.run("usage", "--json").document

    assert before["usage"]["requests"] == 0
    assert (after["usage"]["requests"], after["usage"]["activeJobs"]) == (1, 0)
    assert after["quota"]["requestsPerDay"]["remaining"] == 499
    assert shown.code == 0
    first, _, heading, requests, tokens, jobs, resets = shown.out.splitlines()
    assert first.startswith(f"{after['usage']['day']}: 1 requests, 0 active jobs, ")
    assert first.endswith(" cost $0.0000")
    assert heading.split() == ["TIER", "PRO", "LIMIT", "USED", "RESERVED", "REMAINING"]
    assert requests.split() == ["requests", "per", "day", "500", "1", "0", "499"]
    assert tokens.split()[:4] == ["tokens", "per", "day", "1,000,000"]
    assert jobs.split() == ["concurrent", "jobs", "3", "0", "0", "3"]
    assert resets.endswith(" 00:00 UTC")


def test_without_limits_it_says_so(service: Usa) -> None:
    shown = service.run("usage")
    assert shown.code == 0
    assert "TIER UNLIMITED" in shown.out
    assert shown.out.count("no limit") == 6


def test_days_are_shown_newest_first(service: Usa) -> None:
    bob = of_user(service, "bob")
    shown, document = bob.run("usage", "--days", "3"), bob.run("usage", "--days", "3", "--json")
    heading, *rows = shown.out.splitlines()
    assert heading.split()[:2] + heading.split()[-2:] == ["DAY", "REQUESTS", "COST", "USD"]
    days = [day["day"] for day in document.document["days"]]
    assert [row.split()[0] for row in rows] == days == sorted(days, reverse=True)
    assert len(days) == 3


def test_the_whole_tenants_takes_its_scope(service: Usa) -> None:
    ann = of_user(service, "ann")
    lead = of_user(service, "lead", "--scope", "usage:read", "--scope", "jobs:tenant")

    refused, whole = ann.run("usage", "--tenant"), lead.run("usage", "--tenant", "--json")

    assert (refused.code, refused.out) == (5, "")
    assert "jobs:tenant" in refused.err
    assert whole.document.keys() == {"usage"}
    assert lead.run("usage", "--tenant", "--days", "1").code == 0


@pytest.mark.parametrize("days", ["0", "91", "x"])
def test_a_wrong_number_of_days_is_told(service: Usa, days: str) -> None:
    assert service.run("usage", "--days", days).code == 2
