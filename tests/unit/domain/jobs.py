"""Jobs and attempt ids, made up."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from service.domain.events import EventId
from service.domain.job import DEFAULT_AGENT, Job, JobStatus, Owner

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
JOB = Job(
    id=UUID(int=7),
    owner=Owner("tenant", "user"),
    agent=DEFAULT_AGENT,
    mode="individual",
    story="As a user, I want to log in",
    iterations=("validation",),
    status=JobStatus.PROCESSING,
    attempt=1,
    created_at=NOON,
    available_at=NOON,
    deadline_at=NOON + timedelta(hours=1),
)

COUNTS = st.integers(min_value=0, max_value=200)
EVENT_IDS = st.builds(
    EventId,
    st.integers(min_value=0, max_value=2**31 - 1),
    st.integers(min_value=0, max_value=10**12 - 1),
)


def a_job(**changes: Any) -> Job:
    """A job that its first attempt runs, but for the changes."""
    return replace(JOB, **changes)
