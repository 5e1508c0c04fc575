"""`usa dead-letters` beside a running service: as who operates it, and as the owner of a job."""

import asyncio
import json
from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.integration.cli.conftest import QUICK, beside_a_service
from tests.integration.cli.usa import STORY, Usa

pytestmark = pytest.mark.timeout(120)

_FAILED = 6


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Usa]:
    """`usa` with the key of a service that is up and whose model refuses everything."""
    stub_folder = tmp_path_factory.mktemp("stub")
    with Usa(stub_folder).started("model-stub", "--fault", "refuse=1", "--json") as stub:
        address = json.loads(asyncio.run(stub.prints("}")))["address"]
        model = {"ANTHROPIC_BASE_URL": address, "ANTHROPIC_API_KEY": "sk-of-a-test"}
        with beside_a_service(tmp_path_factory.mktemp("refused"), {**QUICK, **model}) as usa:
            yield usa


def with_key(operator: Usa, user: str, *scopes: str) -> Usa:
    """`usa` with a new key of that user."""
    options = [part for scope in scopes for part in ("--scope", scope)]
    made = operator.run("keys", "create", "--tenant", "acme", "--user", user, *options)
    assert made.code == 0, made.err
    return Usa(operator.folder, {**operator.variables, "USA_API_KEY": made.out.strip()})


def failed(usa: Usa) -> str:
    """The id of a job that has failed."""
    job = usa.submit("--iterations", "security")
    assert usa.run("watch", job).code == _FAILED
    return job


def attempt_of(usa: Usa, job: str) -> int:
    """The number of a job's attempt."""
    jobs = usa.run("jobs", "--limit", "100", "--json").document["jobs"]
    attempt: int = next(each["attempt"] for each in jobs if each["id"] == job)
    return attempt


def test_an_operator_lists_everybodys_failed_jobs_without_their_stories(operator: Usa) -> None:
    ann = with_key(operator, "ann")
    mine, anns = failed(operator), failed(ann)
    admin = with_key(operator, "root", "admin")

    shown = admin.run("dead-letters", "list", "--code", "MODEL_REFUSED", "--limit", "1")
    page = admin.run("dead-letters", "list", "--limit", "1", "--json").document
    rest = admin.run("dead-letters", "list", "--cursor", page["nextCursor"], "--json").document

    assert shown.code == 0
    heading, newest = shown.out.splitlines()
    assert heading.split() == ["ID", "FAILED", "CODE", "TENANT", "USER", "MESSAGE"]
    assert newest.split()[0] == anns
    assert "acme" in newest
    assert STORY not in shown.out
    assert "dead-letters list --code MODEL_REFUSED --cursor " in shown.err
    assert [letter["id"] for letter in page["deadLetters"]] == [anns]
    assert mine in [letter["id"] for letter in rest["deadLetters"]]
    none = admin.run("dead-letters", "list", "--code", "WORKER_LOST")
    assert (none.code, none.out, none.err) == (0, "", "no failed jobs\n")
    assert admin.run("jobs").code == 5


def test_an_operator_redrives_jobs_by_id_and_is_told_of_those_that_stay(operator: Usa) -> None:
    job, missing = failed(operator), str(uuid4())
    admin = with_key(operator, "root", "admin")

    done = admin.run("dead-letters", "redrive", job, missing)

    assert done.code == 5
    assert done.out == f"{job} is queued again\n"
    assert done.err == f"{missing} stays: there is no such job (NOT_FOUND)\n"
    assert operator.run("watch", job).code == _FAILED
    assert attempt_of(operator, job) == 3


def test_an_operator_redrives_jobs_by_code(operator: Usa) -> None:
    job = failed(operator)
    admin = with_key(operator, "root", "admin")

    none = admin.run("dead-letters", "redrive", "--code", "WORKER_LOST")
    report = admin.run("dead-letters", "redrive", "--code", "MODEL_REFUSED", "--json").document

    assert (none.code, none.out, none.err) == (0, "", "no job failed with this code\n")
    assert job in report["redriven"]
    assert report["refused"] == []


def test_an_owner_redrives_jobs_of_his_own(operator: Usa) -> None:
    ann, bob = with_key(operator, "ann"), with_key(operator, "bob")
    job = failed(ann)

    foreign = bob.run("dead-letters", "redrive", job, "--json")
    done = ann.run("dead-letters", "redrive", job)

    assert foreign.code == 5
    [refusal] = foreign.document["refused"]
    assert (refusal["id"], refusal["code"]) == (job, "NOT_FOUND")
    assert (done.code, done.out) == (0, f"{job} is queued again\n")
    assert ann.run("watch", job).code == _FAILED
    assert attempt_of(ann, job) == 3


@pytest.mark.parametrize("command", [("list",), ("redrive", "--code", "MODEL_REFUSED")])
def test_who_may_not_see_everybodys_is_told_what_to_do(
    operator: Usa, command: tuple[str, ...]
) -> None:
    done = with_key(operator, "ann").run("dead-letters", *command)
    assert (done.code, done.out) == (5, "")
    assert len(done.err.splitlines()) == 1
    assert "keys create --scope admin" in done.err
    assert "jobs --status failed" in done.err


def test_a_key_that_may_only_read_redrives_nothing(operator: Usa) -> None:
    job = failed(with_key(operator, "ann"))
    done = with_key(operator, "ann", "jobs:read").run("dead-letters", "redrive", job)
    assert (done.code, done.out) == (5, "")
    assert "jobs:write" in done.err


@pytest.mark.parametrize("arguments", [(), (str(uuid4()), "--code", "WORKER_LOST"), ("no-id",)])
def test_a_wrong_command_line_is_told(operator: Usa, arguments: tuple[str, ...]) -> None:
    assert operator.run("dead-letters", "redrive", *arguments).code == 2
