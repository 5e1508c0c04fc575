"""What somebody does with a Python client that openapi-python-client has made; prints what came."""

import json
import sys
from uuid import UUID, uuid4

from user_story_client import AuthenticatedClient
from user_story_client.api.jobs import cancel_job, create_job, get_job, list_jobs, stream_job
from user_story_client.models import (
    AcceptedJob,
    DeletedJob,
    FinishedJob,
    JobDocument,
    JobPage,
    ProblemDocument,
    Submission,
    SubmissionIterationsItem,
    SubmissionMode,
    SubmissionOptions,
    SubmissionOptionsProductType,
)

STORY = "As a user, I want to log in"


def main(url: str, key: str) -> None:
    """Submit, wait, read, list, watch, cancel, and read problems."""
    with AuthenticatedClient(base_url=url, token=key, timeout=60) as client:
        short = Submission(story=STORY, iterations=[SubmissionIterationsItem.VALIDATION])
        finished = create_job.sync(client=client, body=short, wait=30)
        assert isinstance(finished, FinishedJob)
        assert finished.job.result is not None

        options = SubmissionOptions(product_type=SubmissionOptionsProductType.WEB, verify=False)
        long = Submission(story=STORY, mode=SubmissionMode.WORKFLOW, options=options)
        accepted = create_job.sync(client=client, body=long, idempotency_key="once")
        assert isinstance(accepted, AcceptedJob)
        cancelled = cancel_job.sync(accepted.job.id, client=client)
        assert isinstance(cancelled, DeletedJob)
        read = get_job.sync(accepted.job.id, client=client, wait=10)
        assert isinstance(read, JobDocument)

        page = list_jobs.sync(client=client, limit=10)
        assert isinstance(page, JobPage)
        stream = stream_job.sync(finished.job.id, client=client)
        assert isinstance(stream, str)
        refused = cancel_job.sync_detailed(finished.job.id, client=client)
        assert isinstance(refused.parsed, ProblemDocument)
        unknown = get_job.sync(UUID(int=uuid4().int), client=client)
        assert isinstance(unknown, ProblemDocument)

    seen = {
        "finished": finished.job.status.value,
        "markdown": finished.job.result["markdown"],
        "cost": finished.job.cost_usd,
        "cancelled": cancelled.status,
        "read": read.status.value,
        "iterations": len(read.iterations),
        "listed": [str(job.id) for job in page.jobs] == [str(read.id), str(finished.job.id)],
        "ends": stream.count("event: complete\n"),
        "refused": [refused.status_code, refused.parsed.code],
        "unknown": [unknown.status, unknown.code],
    }
    print(json.dumps(seen))


main(*sys.argv[1:])
