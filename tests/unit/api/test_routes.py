"""What the URL table promises of all its rows."""

from service.api.limits import Limited
from service.api.routes import ROUTES


def test_all_that_reads_below_the_api_counts_as_reading_and_nothing_else_does() -> None:
    reads = {(r.method, r.path) for r in ROUTES if r.limit is Limited.READ}
    gets = {(r.method, r.path) for r in ROUTES if r.method == "GET" and r.path.startswith("/api/")}
    assert reads == gets != set()


def test_only_what_queues_ones_own_jobs_counts_as_submitting() -> None:
    submits = {route.operation for route in ROUTES if route.limit is Limited.SUBMIT}
    assert submits == {"create_job", "redrive_job"}


def test_cancelling_is_never_limited() -> None:
    limits = [route.limit for route in ROUTES if route.method == "DELETE"]
    assert limits == [None] * len(limits) != []


def test_only_callers_who_are_known_are_counted() -> None:
    assert [r for r in ROUTES if r.limit is not None and r.scope is None] == []
