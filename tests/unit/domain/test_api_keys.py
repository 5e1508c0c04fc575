"""API keys as text."""

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain import api_keys
from service.domain.api_keys import RANDOM_BYTES, format_key, hash_key, parse_key

RANDOM = st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES)
# URL-safe base64 writes 0xff as underscores, so this secret is nothing but underscores.
UNDERSCORES = b"\x01\x02\x03\x04" + b"\xff" * (RANDOM_BYTES - 4)


@given(random=RANDOM)
def test_a_key_is_known_again_by_its_text_alone(random: bytes) -> None:
    key = format_key(random)
    presented = parse_key(key.text)
    assert presented is not None
    assert presented.prefix == key.prefix
    assert presented.matches(key.key_hash)


def test_a_secret_of_underscores_is_split_only_at_the_first_two() -> None:
    key = format_key(UNDERSCORES)
    assert key.text.startswith("usa_01020304_______")
    presented = parse_key(key.text)
    assert presented is not None
    assert presented.prefix == "01020304"
    assert presented.matches(key.key_hash)


@given(one=RANDOM, other=RANDOM)
def test_different_randomness_makes_different_keys(one: bytes, other: bytes) -> None:
    assert (format_key(one).text == format_key(other).text) is (one == other)
    assert (format_key(one).key_hash == format_key(other).key_hash) is (one == other)


@given(random=RANDOM, position=st.integers(min_value=13, max_value=55))
def test_a_key_with_one_wrong_character_does_not_match(random: bytes, position: int) -> None:
    key = format_key(random)
    wrong = "x" if key.text[position] != "x" else "y"
    presented = parse_key(key.text[:position] + wrong + key.text[position + 1 :])
    assert presented is not None
    assert not presented.matches(key.key_hash)


@pytest.mark.parametrize(
    "text",
    [
        "", "usa", "usa_", "usa_01020304", "usa_01020304_", "usa__secret", "USA_01020304_secret",
        "usa_0102030_secret", "usa_010203045_secret", "usa_0102030G_secret", "usa_0102030A_secret",
        "sk-ant-01020304-secret", "usa_01020304_sécret", "usa_٠١٠٢٠٣٠٤_secret",
        "usa_01020304\n_secret", "usa_01020304_" + "s" * 188,
    ],
)  # fmt: skip
def test_what_is_no_key_is_none(text: str) -> None:
    assert parse_key(text) is None


@given(text=st.text())
def test_any_text_is_a_key_or_none_and_never_an_error(text: str) -> None:
    assert parse_key(text) is None or text.startswith("usa_")


@given(random=RANDOM)
def test_no_repr_shows_more_than_the_public_prefix(random: bytes) -> None:
    key = format_key(random)
    secret = key.text.split("_", 2)[2]
    presented = parse_key(key.text)
    for shown in (repr(key), str(key), repr(presented), f"{presented}"):
        assert secret not in shown
        assert repr(key.key_hash) not in shown
        assert key.prefix in shown


def test_hashes_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    key = format_key(UNDERSCORES)
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(api_keys, "hmac", type("", (), {"compare_digest": staticmethod(compare)}))
    presented = parse_key(key.text)
    assert presented is not None
    assert not presented.matches(b"\x00" * 32)
    assert compared == [(key.key_hash, b"\x00" * 32)]


@pytest.mark.parametrize("size", [0, RANDOM_BYTES - 1, RANDOM_BYTES + 1])
def test_a_key_is_never_made_of_less_or_more_randomness(size: int) -> None:
    with pytest.raises(ValueError, match="36 random bytes"):
        format_key(b"r" * size)


def test_the_whole_text_is_hashed() -> None:
    assert hash_key("usa_01020304_secret") != hash_key("usa_01020305_secret")
    assert len(hash_key("")) == 32
