"""Ids that sort by when they were made."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.uuid7 import RANDOM_BYTES, uuid7

TIMES = st.integers(min_value=0, max_value=2**48 - 1)
RANDOM = st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES)


@given(time=TIMES, random=RANDOM)
def test_an_id_has_the_version_and_variant_of_the_rfc(time: int, random: bytes) -> None:
    made = uuid7(time, random)
    assert made.version == 7
    assert made.variant == uuid.RFC_4122


@given(earlier=TIMES, later=TIMES, one=RANDOM, other=RANDOM)
def test_ids_sort_by_time_as_values_and_as_text(
    earlier: int, later: int, one: bytes, other: bytes
) -> None:
    first, second = uuid7(earlier, one), uuid7(later, other)
    if earlier != later:
        assert (first < second) is (earlier < later)
        assert (str(first) < str(second)) is (earlier < later)


@given(time=TIMES, random=RANDOM)
def test_an_id_tells_its_time(time: int, random: bytes) -> None:
    assert uuid7(time, random).int >> 80 == time


@given(time=TIMES, one=RANDOM, other=RANDOM)
def test_seventy_four_random_bits_tell_ids_of_one_moment_apart(
    time: int, one: bytes, other: bytes
) -> None:
    mask = (0xFFF << 64) | ((1 << 62) - 1)
    same = int.from_bytes(one) & mask == int.from_bytes(other) & mask
    assert (uuid7(time, one) == uuid7(time, other)) is same


def test_the_example_of_the_rfc_comes_out() -> None:
    random = (0xCC3 << 64 | 0x18C4DC0C0C07398F).to_bytes(RANDOM_BYTES)
    made = uuid7(0x017F22E279B0, random)
    assert str(made) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@pytest.mark.parametrize("size", [0, RANDOM_BYTES - 1, RANDOM_BYTES + 1])
def test_an_id_is_never_made_of_less_or_more_randomness(size: int) -> None:
    with pytest.raises(ValueError, match="10 random bytes"):
        uuid7(0, b"r" * size)
