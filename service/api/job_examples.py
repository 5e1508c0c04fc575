"""What the operations on jobs answer, for example: one job, from its submission to its end."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

import orjson

from service.api.documents import (
    AcceptedJob,
    DeletedJob,
    Document,
    FinishedJob,
    JobDocument,
    JobLinks,
    JobPage,
    JobReceipt,
    JobSummary,
    RedrivenJob,
    StreamedEvent,
)
from service.domain.events import EventId, EventType, event_data
from service.domain.job import DEFAULT_AGENT, Job, JobStatus, JsonObject, Owner
from service.domain.markdown import render_markdown
from service.domain.story import AS_A, I_WANT, OUTCOME_CRITERIA, SO_THAT, Item, Story
from service.domain.usage import Usage
from service.ports.attempts import Totals

JOB_ID: Final = UUID("019abf52-6d1c-7a35-8a42-1f5b8f0c9d27")
OWNER: Final = Owner("acme", "alice")
SUBMITTED: Final = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)

_ITERATION = "validation"
_MODEL = "claude-sonnet-5-5"
_TEXT = "As a shopper, I want to pay by invoice so that I can pay later"
_CURSOR = "AZq_Um0cejWKQh9bjwydJwAGQYpQvoAA"
_USAGE = Usage(input=1450, output=310, cache_read=2100)
_TOTALS = Totals(usage=_USAGE, cost_usd=Decimal("0.0094"), models=(_MODEL,), calls=2)
_SPENT: JsonObject = {
    "durationMs": 8200,
    "tokenUsage": _USAGE.as_json(),
    "costUsd": float(_TOTALS.cost_usd or 0),
}
_ITEM = Item(
    id="AC-OUT-1",
    text="Given an order without a billing address, when the shopper chooses to pay by invoice, "
    "then the missing address is asked for before the order can be placed.",
    iteration=_ITERATION,
)
_IMPROVED = Story(
    title="Pay by invoice",
    sentence={AS_A: "shopper", I_WANT: "to pay by invoice", SO_THAT: "I can pay later"},
    lists={OUTCOME_CRITERIA: (_ITEM,)},
)
_MARKDOWN = render_markdown(_IMPROVED, _TEXT, {_ITEM.id: _ITERATION})
_APPLIED: JsonObject = {
    "op": "add",
    "path": OUTCOME_CRITERIA,
    "id": _ITEM.id,
    "text": _ITEM.text,
    "reason": "an invoice needs an address",
}
_DONE: JsonObject = {
    "applied": [_APPLIED],
    "rejected": [],
    "verification": {"passed": True, "score": 0.92, "issues": []},
    **_SPENT,
}
_RESULT: JsonObject = {
    "story": _IMPROVED.as_json(),
    "markdown": _MARKDOWN,
    "originalStory": _TEXT,
    "iterations": [{"id": _ITERATION, **_DONE}],
    **_SPENT,
    "models": [_MODEL],
}

_QUEUED = Job(
    id=JOB_ID,
    owner=OWNER,
    agent=DEFAULT_AGENT,
    mode="individual",
    story=_TEXT,
    iterations=(_ITERATION,),
    options={"quality": "balanced"},
    status=JobStatus.QUEUED,
    attempt=0,
    created_at=SUBMITTED,
    available_at=SUBMITTED,
    deadline_at=SUBMITTED + timedelta(hours=1),
)
_COMPLETED = replace(
    _QUEUED,
    status=JobStatus.COMPLETED,
    attempt=1,
    started_at=SUBMITTED + timedelta(seconds=1),
    completed_at=SUBMITTED + timedelta(seconds=10),
    result=_RESULT,
)
_LINKS = JobLinks.of(JOB_ID)
_FINISHED = JobDocument.with_progress(
    _COMPLETED, {"completed": [{"iteration": _ITERATION, **_DONE}], "current": None}, _TOTALS
)


_EVENT = event_data(EventType.ITERATION_COMPLETE, JOB_ID, 1, {"iteration": _ITERATION, **_DONE})
MARKDOWN_STORY: Final = _MARKDOWN

JOB_EXAMPLES: Final[Mapping[str, Mapping[int, Document]]] = {
    "create_job": {
        202: AcceptedJob(job=JobReceipt.of(_QUEUED), queue_position=0, links=_LINKS),
        200: FinishedJob(job=_FINISHED, links=_LINKS),
    },
    "list_jobs": {200: JobPage(jobs=[JobSummary.of(_COMPLETED)], next_cursor=_CURSOR)},
    "get_job": {200: _FINISHED},
    "cancel_job": {200: DeletedJob(id=JOB_ID, status="cancelled")},
    "redrive_job": {202: RedrivenJob(job=JobReceipt.of(replace(_QUEUED, attempt=4)), links=_LINKS)},
    "stream_job": {
        200: StreamedEvent(
            event=EventType.ITERATION_COMPLETE,
            data=orjson.dumps(_EVENT).decode(),
            id=str(EventId(1, 3)),
        )
    },
}
