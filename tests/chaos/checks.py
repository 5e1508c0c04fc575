"""The invariants, judged after the run from the test's own ledgers and what the servers hold."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, time
from typing import Any, Final
from uuid import UUID

import orjson

from service.agent.model_stub import StubCall
from service.streams import keys
from tests.chaos.clients import Clients, canary
from tests.chaos.model import expected_texts, nonce_of
from tests.chaos.plan import TENANTS, PlannedJob
from tests.chaos.watchers import Transcript
from tests.chaos.world import LEASE, World

_ENDING_OF: Final = {"completed": "complete", "failed": "error", "cancelled": "cancelled"}
_ENDED: Final = tuple(_ENDING_OF)
_REDRIVE: Final = ("failed", "queued")
_SLACK = 0.05
_FOREIGN_READS = 50
_MOST_FILES_MORE = 60


@dataclass
class Verdict:
    """One invariant: how often it was looked at, and where it did not hold."""

    name: str
    meaning: str
    looked: int = 0
    violations: list[tuple[str, str]] = field(default_factory=list)

    def expect(self, holds: bool, subject: object, what: str) -> None:
        """Note one look."""
        self.looked += 1
        if not holds:
            self.violations.append((str(subject), what))


@dataclass
class Evidence:
    """Everything the checks look at, read once after the run has come to rest."""

    world: World
    clients: Clients
    transcripts: list[Transcript]
    jobs: dict[str, Any]
    ledger: list[Any]
    checkpoints: dict[tuple[UUID, str], Any]
    history: dict[UUID, list[Any]]
    calls: dict[str, list[StubCall]]
    open_files: dict[str, int]

    @property
    def planned(self) -> tuple[PlannedJob, ...]:
        """The jobs of the plan."""
        return self.world.plan.jobs


async def gather_evidence(
    world: World, clients: Clients, transcripts: list[Transcript], open_files: dict[str, int]
) -> Evidence:
    """Read the database and the model's ledger."""
    by_id = {row["id"]: row for row in await world.rows("SELECT * FROM jobs")}
    history: dict[UUID, list[Any]] = defaultdict(list)
    for row in await world.rows("SELECT * FROM job_history ORDER BY position"):
        history[row["job_id"]].append(row)
    calls: dict[str, list[StubCall]] = defaultdict(list)
    for call in world.model.stub.calls:
        calls[nonce_of(call.body) or ""].append(call)
    return Evidence(
        world=world,
        clients=clients,
        transcripts=transcripts,
        jobs={nonce: by_id.get(job_id) for nonce, job_id in world.job_ids.items()},
        ledger=await world.rows("SELECT * FROM usage_records"),
        checkpoints={
            (row["job_id"], row["step"]): row
            for row in await world.rows("SELECT * FROM checkpoints")
        },
        history=history,
        calls=calls,
        open_files=open_files,
    )


async def nothing_accepted_is_lost(found: Evidence, verdict: Verdict) -> None:
    """I1."""
    for job in found.planned:
        acceptance = found.clients.accepted.get(job.nonce)
        verdict.expect(acceptance is not None, job.nonce, "was never accepted")
        if acceptance is not None:
            verdict.expect(len(set(acceptance.job_ids)) == 1, job.nonce, "one key, several jobs")
            verdict.expect(found.jobs.get(job.nonce) is not None, job.nonce, "is not in Postgres")
    rows = await found.world.number("SELECT count(*) FROM jobs")
    expected = len(found.clients.accepted) + found.clients.probes
    verdict.expect(rows == expected, "jobs", f"{rows} rows for {expected} accepted jobs")


async def every_job_ends_once(found: Evidence, verdict: Verdict) -> None:
    """I2."""
    for nonce, row in found.jobs.items():
        status = row["status"] if row else None
        verdict.expect(status in _ENDED, nonce, f"is {status} after the run")
    redriven = {found.world.job_ids[nonce] for nonce in found.clients.redriven}
    for job_id, steps in found.history.items():
        left = [step for step in steps if step["old_status"] in _ENDED]
        allowed = 1 if job_id in redriven else 0
        verdict.expect(len(left) <= allowed, job_id, "changed after it had ended")
        back = [step for step in left if (step["old_status"], step["new_status"]) != _REDRIVE]
        verdict.expect(not back, job_id, "changed after it had ended, and was not redriven")
        attempts = [step["attempt"] for step in steps]
        verdict.expect(attempts == sorted(attempts), job_id, f"its attempts go back: {attempts}")


async def outcomes_are_the_planned_ones(found: Evidence, verdict: Verdict) -> None:
    """I3."""
    for job in found.planned:
        row = found.jobs.get(job.nonce)
        if row is None or row["status"] == "cancelled":
            continue
        verdict.expect(
            row["status"] == job.ending,
            job.nonce,
            f"{row['status']}, not {job.ending}: {row['error']}",
        )
        if row["status"] == "completed":
            _expect_result(job, orjson.loads(row["result"]), verdict)


def _expect_result(job: PlannedJob, result: dict[str, Any], verdict: Verdict) -> None:
    if job.agent == "sleep":
        steps = [f"step-{number}" for number in range(1, job.steps + 1)]
        verdict.expect(result["steps"] == steps, job.nonce, f"its steps are {result['steps']}")
    if job.agent == "user-story":
        done = [each["id"] for each in result["iterations"]]
        verdict.expect(done == list(job.iterations), job.nonce, f"its iterations are {done}")
        texts = set(_texts(result["story"]))
        missing = expected_texts(job) - texts
        verdict.expect(not missing, job.nonce, f"{len(missing)} of its texts are missing")
        verdict.expect(job.nonce in result["originalStory"], job.nonce, "is another's story")


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        if isinstance(value.get("text"), str):
            yield value["text"]
        for child in value.values():
            yield from _texts(child)
    if isinstance(value, list):
        for child in value:
            yield from _texts(child)


async def money_is_counted_once(found: Evidence, verdict: Verdict) -> None:
    """I4."""
    billed = {call.id: call for calls in found.calls.values() for call in calls}
    seen: set[str] = set()
    for row in found.ledger:
        subject = f"{row['job_id']} {row['attempt']}/{row['call']}"
        verdict.expect(row["ending"] is not None, subject, "its ledger row was never closed")
        if row["ending"] == "finished" and row["model"] != "sleep":
            request = row["request_id"]
            verdict.expect(request not in seen, subject, f"{request} is booked twice")
            seen.add(request)
            call = billed.get(request)
            verdict.expect(call is not None, subject, f"nobody billed {request}")
            if call is not None:
                _expect_same_tokens(row, call, subject, verdict)
    rows_of = Counter(row["job_id"] for row in found.ledger)
    for nonce, calls in found.calls.items():
        job_id = found.world.job_ids.get(nonce)
        if job_id is not None:
            booked = rows_of[job_id]
            verdict.expect(len(calls) <= booked, nonce, f"{len(calls)} calls, {booked} rows")
    await _expect_sums(found.world, verdict)


def _expect_same_tokens(row: Any, call: StubCall, subject: str, verdict: Verdict) -> None:
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    booked = [row[name] for name in names]
    usage = call.billed
    billed = [usage.input, usage.output, usage.cache_read, usage.cache_write]
    verdict.expect(booked == billed, subject, f"booked {booked}, billed {billed}")


async def _expect_sums(world: World, verdict: Verdict) -> None:
    differing = await world.rows(
        "WITH ledger AS (SELECT tenant_id, user_id, day, sum(input_tokens) AS i,"
        " sum(output_tokens) AS o, sum(cache_read_tokens) AS r, sum(cache_write_tokens) AS w,"
        " coalesce(sum(cost_usd), 0) AS c FROM usage_records GROUP BY 1, 2, 3)"
        " SELECT coalesce(l.user_id, d.user_id) AS who FROM ledger l"
        " FULL JOIN (SELECT * FROM daily_usage WHERE input_tokens > 0) d"
        " USING (tenant_id, user_id, day)"
        " WHERE (l.i, l.o, l.r, l.w, l.c) IS DISTINCT FROM (d.input_tokens, d.output_tokens,"
        " d.cache_read_tokens, d.cache_write_tokens, d.cost_usd)"
    )
    verdict.expect(not differing, "daily_usage", f"differs from the ledger: {differing}")
    reserved = await world.number("SELECT sum(reserved_tokens) FROM jobs")
    verdict.expect(reserved == 0, "reservations", f"{reserved} tokens are still reserved")


async def finished_calls_are_never_paid_again(found: Evidence, verdict: Verdict) -> None:
    """I5."""
    offset = time() - monotonic()
    finished: dict[tuple[UUID, str], int] = Counter()
    for row in found.ledger:
        checkpoint = found.checkpoints.get((row["job_id"], row["step"]))
        finished[row["job_id"], row["step"]] += row["ending"] == "finished"
        if checkpoint is not None:
            again = row["attempt"] > checkpoint["attempt"] or (
                row["attempt"] == checkpoint["attempt"]
                and row["opened_at"] > checkpoint["created_at"]
            )
            verdict.expect(not again, row["job_id"], f"{row['step']} was opened once more")
    by_request = {row["request_id"]: row for row in found.ledger if row["ending"] == "finished"}
    for calls in found.calls.values():
        _expect_no_later_call(calls, by_request, found.checkpoints, offset, verdict)


def _expect_no_later_call(
    calls: list[StubCall],
    by_request: dict[str, Any],
    checkpoints: dict[tuple[UUID, str], Any],
    offset: float,
    verdict: Verdict,
) -> None:
    """Of requests that ask the same, none comes after the answer was written down."""
    written: dict[str, float] = {}
    for call in calls:
        row = by_request.get(call.id)
        checkpoint = checkpoints.get((row["job_id"], row["step"])) if row else None
        if checkpoint is not None:
            written[_question(call)] = checkpoint["created_at"].timestamp()
    for call in calls:
        since = written.get(_question(call))
        late = since is not None and call.started + offset > since + _SLACK
        verdict.expect(not late, nonce_of(call.body), f"{call.id} asks what was written down")


def _question(call: StubCall) -> str:
    return hashlib.sha256(orjson.dumps(call.body, option=orjson.OPT_SORT_KEYS)).hexdigest()


async def cancelled_jobs_stay_cancelled(found: Evidence, verdict: Verdict) -> None:
    """I6."""
    offset = time() - monotonic()
    for nonce, answer in found.clients.cancellations.items():
        row = found.jobs[nonce]
        status = row["status"] if row else None
        if answer.status == 200:
            verdict.expect(status == "cancelled", nonce, f"is {status}, the client heard cancelled")
            late = [
                call for call in found.calls.get(nonce, ())
                if call.started + offset > answer.at + LEASE
            ]  # fmt: skip
            verdict.expect(not late, nonce, f"{len(late)} calls long after the cancellation")
        else:
            verdict.expect(status in {"completed", "failed"}, nonce, f"409 although it is {status}")
    asked = {nonce for nonce, answer in found.clients.cancellations.items() if answer.status == 200}
    for nonce, row in found.jobs.items():
        if row and row["status"] == "cancelled":
            verdict.expect(nonce in asked, nonce, "was cancelled by nobody")


async def every_watcher_sees_one_true_story(found: Evidence, verdict: Verdict) -> None:
    """I7 and I8."""
    for transcript in found.transcripts:
        nonce, row = transcript.job.nonce, found.jobs.get(transcript.job.nonce)
        for fault in transcript.faults:
            verdict.expect(False, nonce, fault)
        if row is None:
            continue
        wanted = [_ENDING_OF.get(row["status"], "none")]
        told = transcript.endings
        if nonce in found.clients.redriven and told[:1] == ["error"]:
            told = told[1:]
        verdict.expect(told == wanted, nonce, f"ends with {transcript.endings}")
        final = transcript.view.final or {}
        if row["status"] == "completed":
            result = orjson.loads(row["result"])
            verdict.expect(final.get("result") == result, nonce, "told another result")
            folded = transcript.view.story.as_json()
            verdict.expect(folded == result["story"], nonce, "its events fold to another story")
        if row["status"] == "failed":
            code = orjson.loads(row["error"])["code"]
            verdict.expect(final.get("code") == code, nonce, f"told {final.get('code')}")


async def nobody_sees_anothers(found: Evidence, verdict: Verdict) -> None:
    """I10."""
    for job in found.planned[:: max(1, len(found.planned) // _FOREIGN_READS)]:
        path = f"/api/v1/jobs/{found.world.job_ids[job.nonce]}"
        stranger = (job.tenant + 1) % len(TENANTS)
        for method, where in (("GET", path), ("GET", f"{path}/stream"), ("DELETE", path)):
            status, _ = await found.clients.ask(method, where, stranger, job.user, job.number)
            verdict.expect(status == 404, job.nonce, f"{method} by a stranger: {status}")
    secrets = [*(canary(n) for n in range(len(TENANTS))), *found.world.keys.values()]
    for path_ in sorted((found.world.folder / "logs").iterdir()):
        text = path_.read_text(errors="replace")
        told = [secret for secret in secrets if secret in text]
        verdict.expect(not told, path_.name, f"{len(told)} private texts in the log")


async def nothing_is_left_behind(found: Evidence, verdict: Verdict) -> None:
    """I11."""
    redis = found.world.redis
    for stream in (keys.JOBS, keys.AGAIN):
        pending: Any = await redis.xpending(stream, keys.GROUP)
        verdict.expect(pending["pending"] == 0, stream, f"{pending['pending']} entries pending")
        length = await redis.xlen(stream)
        verdict.expect(length == 0, stream, f"{length} entries left")
    async for key in redis.scan_iter("usa:events:*", count=500):
        ttl = await redis.ttl(key)
        verdict.expect(ttl != -1, key.decode(), "would stay for ever")
    owing = await found.world.number("SELECT count(*) FROM jobs WHERE event_pending")
    verdict.expect(owing == 0, "jobs", f"{owing} owe an event")
    for api in found.world.apis:
        before, now = found.open_files[api.name], open_files_of(api.process.popen.pid)
        grown = now - before
        verdict.expect(grown < _MOST_FILES_MORE, api.name, f"{grown} more open files than at first")


def open_files_of(pid: int) -> int:
    """How many files and connections a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


CHECKS: Final[dict[str, tuple[str, Callable[[Evidence, Verdict], Awaitable[None]]]]] = {
    "I1": ("every accepted job exists, one per key", nothing_accepted_is_lost),
    "I2": ("every job ends, once and for good", every_job_ends_once),
    "I3": ("every outcome is the one that its input calls for", outcomes_are_the_planned_ones),
    "I4": ("ledger, bill, daily usage and reservations agree", money_is_counted_once),
    "I5": ("a finished call is never paid again", finished_calls_are_never_paid_again),
    "I6": ("what was cancelled stays cancelled and calls nobody", cancelled_jobs_stay_cancelled),
    "I7+I8": ("every watcher sees one gapless, true story", every_watcher_sees_one_true_story),
    "I10": ("nobody sees another's job, nor does a log", nobody_sees_anothers),
    "I11": ("nothing is left behind", nothing_is_left_behind),
}


async def judge(found: Evidence) -> list[Verdict]:
    """Look at every invariant."""
    verdicts = []
    for name, (meaning, check) in CHECKS.items():
        verdict = Verdict(name, meaning)
        await check(found, verdict)
        verdicts.append(verdict)
    return verdicts
