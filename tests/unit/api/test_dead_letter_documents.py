"""Why a job was not redriven, in words that are never wrong."""

from uuid import UUID

import pytest

from service.api.dead_letter_documents import RefusedRedrive
from service.domain.job import JobStatus

JOB = UUID(int=7)


@pytest.mark.parametrize(
    ("status", "code", "detail"),
    [
        (None, "NOT_FOUND", "there is no such job"),
        (
            JobStatus.COMPLETED,
            "JOB_NOT_FAILED",
            "only failed jobs can be redriven: this one is completed",
        ),
        (JobStatus.FAILED, "JOB_NOT_FAILED", "it failed only just now: ask again"),
    ],
)
def test_a_refusal_says_where_the_job_stands(
    status: JobStatus | None, code: str, detail: str
) -> None:
    assert RefusedRedrive.of(JOB, status) == RefusedRedrive(id=JOB, code=code, detail=detail)
