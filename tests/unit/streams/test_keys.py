"""Key and channel names."""

import re
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.streams import keys


def hash_tag(key: str) -> str:
    found = re.search(r"\{([^}]+)\}", key)
    assert found is not None
    return found[1]


@given(job_id=st.uuids())
def test_a_channel_tells_its_job(job_id: UUID) -> None:
    assert keys.job_of_live(keys.live(job_id)) == job_id


@given(job_id=st.uuids())
def test_a_jobs_stream_and_channel_share_a_slot_of_their_own(job_id: UUID) -> None:
    assert hash_tag(keys.events(job_id)) == hash_tag(keys.live(job_id)) == str(job_id)


def test_the_job_streams_and_their_marker_share_a_slot() -> None:
    assert hash_tag(keys.JOBS) == hash_tag(keys.AGAIN) == hash_tag(keys.EPOCH) == "usa"


@pytest.mark.parametrize("channel", ["", "usa:live", "usa:live:{}", "usa:live:{x}", "other"])
def test_any_other_channel_is_no_jobs(channel: str) -> None:
    assert keys.job_of_live(channel) is None


def test_a_holders_counts_share_a_slot_whatever_characters_are_in_the_name() -> None:
    names = [("a", "b/c"), ("a/b", "c"), ("ab", "c"), ("}{", "\ud800"), ("key:1",)]
    tags = {hash_tag(keys.rate("submit", name)) for name in names}
    assert tags == {hash_tag(keys.rate("read", name)) for name in names}
    assert len(tags) == len(names)
    assert all(re.fullmatch(r"[0-9a-f]{32}", tag) for tag in tags)
