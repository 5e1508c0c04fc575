"""Commands that talk to a running service, as people and scripts use them."""

import os
import pty
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import orjson
import pytest

from service.domain.api_keys import Scope
from service.domain.events import EventId
from service.domain.tiers import TIERS
from tests.integration.cli.usa import STORY, Usa

pytestmark = pytest.mark.timeout(120)


def finished(service: Usa, *options: str) -> str:
    """The id of a job that has ended."""
    job = service.submit(*options)
    assert service.run("watch", job).code == 0
    return job


def test_a_followed_submission_prints_the_story_and_tells_the_rest_apart(service: Usa) -> None:
    done = service.run("submit", "-", "--iterations", "validation, security", "-f", story=STORY)
    assert done.code == 0
    assert done.out.startswith("# Log in\n")
    assert done.out.endswith("```\n")
    for said in ("started: validation, security", "security (2 of 2)", "no model was called"):
        assert said in done.err


def test_a_file_is_submitted_without_its_last_line_end(service: Usa, tmp_path: Path) -> None:
    path = tmp_path / "story.md"
    path.write_text(f"\ufeff{STORY}\n", encoding="utf-8")
    accepted = service.run("submit", str(path), "--iterations", "security", "--json").document
    stored = service.run("jobs", "--limit", "1", "--json").document["jobs"][0]
    assert (stored["id"], stored["story"]) == (accepted["job"]["id"], STORY)
    assert stored["iterations"] == ["security"]


def test_options_reach_the_service(service: Usa) -> None:
    service.submit("--workflow", "api", "--quality", "fast", "--no-verify")
    stored = service.run("jobs", "--limit", "1", "--json").document["jobs"][0]
    assert stored["mode"] == "workflow"
    assert stored["options"] == {"verify": False, "productType": "api", "quality": "fast"}


def test_a_plain_submission_prints_the_id_and_how_to_watch_it(service: Usa) -> None:
    done = service.run("submit", "-", story=STORY)
    job = done.out.split()[0].rstrip(",")
    assert done.code == 0
    assert f"watch {job}" in done.err
    assert service.run("watch", job).code == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--iterations", "security,nope"], "iterations[1]: 'nope' is not one of"),
        (["--quality", "cheap"], "options.quality: 'cheap' is not one of fast"),
    ],
)
def test_what_the_service_refuses_is_told_in_one_line(
    service: Usa, options: list[str], said: str
) -> None:
    done = service.run("submit", "-", *options, story=STORY)
    assert (done.code, done.out) == (5, "")
    assert len(done.err.splitlines()) == 1
    assert said in done.err


def test_an_empty_or_huge_story_is_refused(service: Usa) -> None:
    assert service.run("submit", "-", story="\n").code == 5
    huge = service.run("submit", "-", story="x" * 60_000)
    assert huge.code == 5
    assert "STORY_TOO_LARGE" in huge.err


def test_events_come_as_lines_and_can_be_taken_up_anywhere(service: Usa) -> None:
    job = finished(service, "--iterations", "security")
    whole = service.run("watch", job, "--json").lines
    ids = [each["id"] for each in whole if each["id"]]
    parsed = [EventId.parse(each) for each in ids]
    assert all(a and b and a < b for a, b in pairwise(parsed))
    assert [each["event"] for each in whole].count("complete") == 1

    rest = service.run("watch", job, "--json", "--after", ids[-3]).lines
    assert [each["id"] for each in rest if each["id"]] == ids[-2:]

    seen_all = service.run("watch", job, "--after", ids[-1])
    assert seen_all.code == 0
    assert seen_all.out.startswith("# Log in\n")


def test_a_result_can_be_had_as_text_markdown_and_json(service: Usa) -> None:
    job = finished(service, "--iterations", "security")
    text = service.run("result", job)
    markdown = service.run("result", job, "--markdown")
    document = service.run("result", job, "--json").document
    assert text.out == markdown.out == document["result"]["markdown"]
    assert "no model was called" in text.err
    assert markdown.err == ""
    assert (document["id"], document["status"], document["error"]) == (job, "completed", None)


def test_jobs_are_listed_newest_first_and_page_by_page(service: Usa) -> None:
    older, newer = finished(service), finished(service)
    first = service.run("jobs", "--limit", "1", "--json").document
    second = service.run("jobs", "--limit", "1", "--cursor", first["nextCursor"], "--json").document
    assert [page["jobs"][0]["id"] for page in (first, second)] == [newer, older]
    table = service.run("jobs", "--status", "completed").out.splitlines()
    assert table[0].split() == ["ID", "STATUS", "SUBMITTED", "STORY"]
    assert table[1].split()[:2] == [newer, "completed"]
    assert table[1].endswith(STORY)
    none = service.run("jobs", "--status", "failed")
    assert (none.code, none.out, none.err) == (0, "", "no jobs\n")


def test_a_finished_job_cannot_be_cancelled_and_an_unknown_one_not_found(service: Usa) -> None:
    finished_one = service.run("cancel", finished(service))
    assert finished_one.code == 5
    assert "JOB_FINISHED" in finished_one.err
    for command in ("cancel", "watch", "result"):
        unknown = service.run(command, str(uuid4()))
        assert unknown.code == 5
        assert "NOT_FOUND" in unknown.err


def test_a_finished_job_is_erased_for_good(service: Usa) -> None:
    first, second = finished(service), finished(service)
    done = service.run("purge", first)
    assert (done.code, done.out, done.err) == (0, f"{first} is erased\n", "")
    assert service.run("purge", second, "--json").document == {"id": second, "status": "purged"}
    for job in (first, second):
        again = service.run("purge", job, "--yes")
        assert (again.code, "NOT_FOUND" in again.err) == (5, True)
        assert job not in service.run("jobs", "--limit", "100").out


def test_a_job_that_has_not_ended_is_not_erased(slow_service: Usa) -> None:
    job = slow_service.submit("--iterations", "security")
    refused = slow_service.run("purge", job)
    assert (refused.code, "JOB_NOT_ENDED" in refused.err) == (5, True)
    assert slow_service.run("cancel", job).code == 0


@pytest.mark.parametrize(("answer", "is_erased"), [("y", True), ("n", False), ("", False)])
def test_at_a_terminal_erasing_is_asked_about_first(
    service: Usa, answer: str, is_erased: bool
) -> None:
    job = finished(service)
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{answer}\n".encode())
        done = subprocess.run(
            [sys.executable, "-m", "service", "purge", job],
            cwd=service.folder,
            env=service.environment,
            stdin=theirs,
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert f"Erase {job} for good?" in done.stderr
    assert ("nothing is erased" in done.stderr) is not is_erased
    assert (job in service.run("jobs", "--limit", "100").out) is not is_erased


def test_a_key_that_the_service_does_not_know_is_told(service: Usa) -> None:
    stranger = Usa(service.folder, {**service.variables, "USA_API_KEY": "usa_00000000_x"})
    done = stranger.run("jobs")
    assert done.code == 3
    assert "USA_API_KEY" in done.err


@pytest.mark.parametrize("name", ["", "a\nb", "n" * 201])
def test_a_key_is_somebodys(service: Usa, name: str) -> None:
    for whose in (("--tenant", name, "--user", "ann"), ("--tenant", "acme", "--user", name)):
        refused = service.run("keys", "create", *whose)
        assert refused.code == 2
        assert "1 to 200 characters" in refused.err


def test_a_key_is_made_used_listed_and_revoked_beside_a_running_service(service: Usa) -> None:
    made = service.run("keys", "create", "--tenant", "acme", "--user", "ann", "--name", "of a test")
    text = made.out.strip()
    ann = Usa(service.folder, {**service.variables, "USA_API_KEY": text})
    assert ann.run("jobs", "--json").document["jobs"] == []
    assert ann.run("submit", "-", "--json", story=STORY).code == 0

    listed = service.run("keys", "list", "--json").document["keys"]
    mine = next(key for key in listed if key["name"] == "of a test")
    assert (mine["tenantId"], mine["userId"], mine["tier"]) == ("acme", "ann", "free")
    assert mine["scopes"] == ["jobs:read", "jobs:write", "usage:read"]
    shown = service.run("keys", "list")
    assert mine["prefix"] in shown.out
    assert text not in shown.out + service.run("keys", "list", "--json").out

    done = service.run("keys", "revoke", mine["prefix"])
    assert done.code == 0
    on_record = [orjson.loads(said.err.splitlines()[0]) for said in (made, done)]
    assert [record["action"] for record in on_record] == ["keys.create", "keys.revoke"]
    for record in on_record:
        assert record["event"] == "audit"
        assert (record["tenant"], record["user"]) == ("acme", "ann")
        assert record["key_prefix"] == mine["prefix"]
    assert text.split("_", 2)[2] not in made.err + done.err
    revoked = service.run("keys", "list", "--json").document["keys"]
    assert next(key for key in revoked if key["name"] == "of a test")["revokedAt"] is not None
    refused = service.run("keys", "revoke", "00000000")
    assert refused.code == 5
    assert orjson.loads(refused.err.splitlines()[0])["outcome"] == "denied"


def test_a_key_can_be_limited(service: Usa) -> None:
    made = service.run(
        *("keys", "create", "--tenant", "acme", "--user", "bob", "--json"),
        *("--scope", "jobs:read", "--tier", "pro", "--days", "30"),
    ).document
    bob = Usa(service.folder, {**service.variables, "USA_API_KEY": made["key"]})
    assert (made["tier"], made["scopes"]) == ("pro", ["jobs:read"])
    assert made["expiresAt"] > made["createdAt"]
    refused = bob.run("submit", "-", story=STORY)
    assert refused.code == 5
    assert "jobs:write" in refused.err


@pytest.mark.parametrize("tier", TIERS)
def test_a_key_can_be_of_any_tier(service: Usa, tier: str) -> None:
    owner = ("--tenant", "acme", "--user", tier)
    made = service.run("keys", "create", *owner, "--tier", tier, "--json").document
    assert (made["tier"], made["expiresAt"]) == (tier, None)


def test_a_key_can_have_any_scope_and_no_other(service: Usa) -> None:
    scopes = [word for scope in Scope for word in ("--scope", scope.value)]
    owner = ("--tenant", "acme", "--user", "all")
    made = service.run("keys", "create", *owner, *scopes, "--json").document
    assert made["scopes"] == sorted(Scope)
    for wrong in (["--scope", "jobs"], ["--tier", "gold"], ["--days", "0"]):
        assert service.run("keys", "create", *owner, *wrong).code == 2


def test_the_schema_of_a_running_service_is_up_to_date(service: Usa) -> None:
    checked = service.run("migrate", "--check", "--json")
    assert (checked.code, checked.document) == (0, {"pending": []})
