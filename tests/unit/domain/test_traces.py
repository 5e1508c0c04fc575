"""Where a trace goes on: what is malformed, or belongs to another trace, is not believed."""

import pytest

from service.domain.traces import nearest, trace_id

TRACE = "0af7651916cd43dd8448eb211c80319c"
JOB = f"00-{TRACE}-b7ad6b7169203331-01"
ENTRY = f"00-{TRACE}-00f067aa0ba902b7-01"
OTHER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_trace_has_an_id() -> None:
    assert trace_id(JOB) == trace_id(ENTRY) == TRACE


@pytest.mark.parametrize("text", [None, "", JOB.upper(), JOB + "-more", "ff" + JOB[2:], "�"])
def test_what_is_malformed_has_none(text: str | None) -> None:
    assert trace_id(text) is None


@pytest.mark.parametrize(
    ("of_entry", "of_job", "found"),
    [
        (ENTRY, JOB, ENTRY),
        (None, JOB, JOB),
        (OTHER, JOB, JOB),
        ("garbage", JOB, JOB),
        (ENTRY, None, None),
        ("garbage", "garbage", "garbage"),
        (None, None, None),
    ],
)
def test_an_entry_says_where_its_jobs_trace_goes_on_and_never_which_it_is(
    of_entry: str | None, of_job: str | None, found: str | None
) -> None:
    assert nearest(of_entry, of_job) == found
