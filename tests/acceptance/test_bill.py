"""The bill: what the model's side wrote down of a job is what the job says it used and cost."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import reduce
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson
import pytest

from service.agent.model_stub import ModelStub, StubCall
from service.client.documents import JobDocument
from service.domain.job import JsonObject
from service.domain.usage import Usage
from tests.fixtures.figures import show
from tests.fixtures.processes import Cluster
from tests.fixtures.waiting import eventually

KEY = "sk-ant-of-the-bill"
STORY = "As a returning customer, I want to log in, so that I can see my orders"
OTHER_STORY = "As a librarian, I want to lend a book, so that a reader can take it home"
ITERATIONS = ["user-roles", "validation", "security"]
SONNET, HAIKU = "claude-sonnet-5-5", "claude-haiku-5-5"

# USD per million tokens of input, output, cache writes, cache reads, from a day on.
PRICES: Final[Sequence[tuple[date, str, Sequence[str]]]] = (
    (date(2026, 1, 1), SONNET, ("2", "10", "2.50", "0.20")),
    (date(2026, 10, 7), SONNET, ("2", "10", "2.50", "0.10")),
    (date(2026, 10, 7), HAIKU, ("0.10", "0.50", "0.125", "0.01")),
)
# What the ledger keeps of an amount.
SMALLEST_AMOUNT: Final = Decimal("0.00000001")


@dataclass(frozen=True, kw_only=True)
class Bill:
    """One job as it says of itself, as our ledger has it, and as its model's side has it."""

    job: JobDocument
    rows: Sequence[asyncpg.Record]
    calls: Sequence[StubCall]

    @property
    def drafts(self) -> list[StubCall]:
        """The calls that asked for patches."""
        return [call for call in self.calls if _schema(call)["required"] == ["patches"]]

    @property
    def verifications(self) -> list[StubCall]:
        """The calls that asked for a review."""
        return [call for call in self.calls if _schema(call)["required"] == ["score", "issues"]]

    @property
    def cost(self) -> Decimal:
        """What the model's side would charge, by the prices of the day."""
        return sum((_price(call, self.rows[0]["day"]) for call in self.calls), Decimal(0))


def _schema(call: StubCall) -> JsonObject:
    schema: JsonObject = call.body["output_config"]["format"]["schema"]
    return schema


def _price(call: StubCall, day: date) -> Decimal:
    (*_, rates) = [rates for since, model, rates in PRICES if model == call.model and since <= day]
    used = (call.billed.input, call.billed.output, call.billed.cache_write, call.billed.cache_read)
    amount = sum((n * Decimal(rate) for n, rate in zip(used, rates, strict=True)), Decimal(0))
    return (amount / 1_000_000).quantize(SMALLEST_AMOUNT)


def total(usages: Iterable[Usage]) -> JsonObject:
    """Tokens as the API shows them, summed field by field."""
    return reduce(Usage.__add__, usages, Usage()).as_json()


@pytest.fixture
async def claude(tmp_path: Path) -> AsyncIterator[ModelStub]:
    """A stand-in for Claude that refuses what Claude refuses, and writes its books."""
    stub = ModelStub(api_key=KEY, ledger_path=tmp_path / "books-of-the-model.jsonl")
    await stub.start()
    yield stub
    await stub.stop()


RunJob = Callable[..., Awaitable[Bill]]


@pytest.fixture
async def run_job(cluster: Cluster, claude: ModelStub) -> RunJob:
    """Run a job through an API and a worker of their own, and collect what it has cost."""
    worker = {
        "USA_MODEL": "anthropic",
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": claude.address,
    }
    await cluster.start_api(USA_MODEL="anthropic")
    await cluster.start_workers(1, **worker)

    async def run(story: str = STORY, **options: Any) -> Bill:
        before = len(claude.calls)
        async with cluster.client() as client:
            submitted = await client.submit(story, iterations=ITERATIONS, options=options)
            job_id = submitted["job"]["id"]
            ended = await client.wait(UUID(job_id), within=30.0)
        calls = claude.calls[before:]
        await eventually(lambda: all(call.ended for call in calls), what="the books are closed")
        rows = await cluster.rows(
            "SELECT * FROM usage_records WHERE job_id = $1 ORDER BY opened_at", UUID(job_id)
        )
        return Bill(job=ended, rows=rows, calls=calls)

    return run


async def test_a_job_makes_one_draft_and_one_verification_per_iteration(run_job: RunJob) -> None:
    bill = await run_job()

    assert [call.status for call in bill.calls] == [200] * 6
    assert [call.model for call in bill.drafts] == [SONNET] * 3
    assert [call.model for call in bill.verifications] == [HAIKU] * 3
    assert [row["step"] for row in bill.rows] == [
        f"{iteration}/{step}" for iteration in ITERATIONS for step in ("draft", "verify")
    ]
    assert [row["request_id"] for row in bill.rows] == [call.id for call in bill.calls]
    assert bill.job["status"] == "completed"


async def test_a_job_without_verification_makes_one_call_per_iteration(run_job: RunJob) -> None:
    bill = await run_job(verify=False)

    assert len(bill.calls) == len(bill.drafts) == 3


async def test_no_call_has_a_parameter_that_current_models_refuse(run_job: RunJob) -> None:
    bill = await run_job()

    for call in bill.calls:
        assert call.body.keys() == {
            *("model", "max_tokens", "system", "messages", "output_config", "stream")
        }
        # No prefill: the model has the last word, and the only one.
        assert [message["role"] for message in call.body["messages"]] == ["user"]
        assert call.body["output_config"].keys() == {"format"}
        assert call.headers["authorization"] == f"Bearer {KEY}"
        assert call.headers["anthropic-version"]


@pytest.mark.parametrize("options", [{}, {"model": SONNET}], ids=str)
async def test_calls_share_their_beginning_to_the_byte_and_read_it_from_the_cache(
    run_job: RunJob, options: Mapping[str, Any]
) -> None:
    first = await run_job(**options)
    second = await run_job(OTHER_STORY, productContext={"name": "Library"}, **options)

    calls = [*first.calls, *second.calls]
    for alike in (first.drafts + second.drafts, first.verifications + second.verifications):
        assert len({orjson.dumps(call.body["output_config"]) for call in alike}) == 1
        # Reviews do not read the rules for patches, hence one beginning for each of the two.
        assert len({orjson.dumps(call.body["system"][0]) for call in alike}) == 1
    assert [orjson.dumps(each.body["system"]) for each in first.calls] == [
        orjson.dumps(each.body["system"]) for each in second.calls
    ]
    assert len({orjson.dumps(each.body["system"]) for each in first.verifications}) == 1
    for call in calls:
        assert all("cache_control" in block for block in call.body["system"])
        # The story is each job's own, and comes after everything that is marked.
        assert b"cache_control" not in orjson.dumps(call.body["messages"])
    assert [call.billed.cache_read > 0 for call in first.drafts] == [False, True, True]
    assert all(call.billed.cache_read > 0 for call in second.drafts)
    assert [call.billed.cache_write for call in second.drafts] == [0, 0, 0]
    if "model" in options:
        # What verifications share is shorter than the least that Haiku is taken to cache.
        assert [c.billed.cache_read > 0 for c in first.verifications] == [False, True, True]
        assert [call.billed.cache_write for call in second.verifications] == [0, 0, 0]


@pytest.mark.parametrize(
    "options", [{}, {"verify": False}, {"model": SONNET}, {"quality": "fast"}], ids=str
)
async def test_what_a_job_says_it_used_and_cost_is_what_was_billed(
    run_job: RunJob, cluster: Cluster, options: Mapping[str, Any]
) -> None:
    bill = await run_job(**options)

    result, billed = bill.job["result"], total(call.billed for call in bill.calls)
    assert result is not None
    (daily,) = await cluster.rows("SELECT * FROM daily_usage")
    for books in (bill.rows, [daily]):
        assert billed == {
            "input": sum(row["input_tokens"] for row in books),
            "output": sum(row["output_tokens"] for row in books),
            "cacheRead": sum(row["cache_read_tokens"] for row in books),
            "cacheWrite": sum(row["cache_write_tokens"] for row in books),
        }
        assert sum(row["cost_usd"] for row in books) == bill.cost
    assert bill.job["tokenUsage"] == result["tokenUsage"] == billed
    assert bill.job["costUsd"] == result["costUsd"] == float(bill.cost) > 0
    assert not any(row["estimated"] for row in bill.rows)
    by_id = {call.id: call.billed for call in bill.calls}
    for iteration in result["iterations"]:
        own = [row for row in bill.rows if row["step"].startswith(f"{iteration['id']}/")]
        assert iteration["tokenUsage"] == total(by_id[row["request_id"]] for row in own)
    show(f"{options}: {len(bill.calls)} calls, {billed}, {bill.cost} USD")


async def test_the_models_own_books_on_disk_say_the_same(run_job: RunJob, tmp_path: Path) -> None:
    bill = await run_job()

    lines = (tmp_path / "books-of-the-model.jsonl").read_bytes().splitlines()
    written = [orjson.loads(line) for line in lines]
    assert [each["id"] for each in written] == [row["request_id"] for row in bill.rows]
    assert all(each["completed"] for each in written)
    assert bill.job["tokenUsage"] == total(Usage.from_json(each["billed"]) for each in written)
