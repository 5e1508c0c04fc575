"""What the list of keys tells about one."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from service.cli.keys import key_state
from service.ports.access import ApiKey
from tests.fixtures.factories import an_owner

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
KEY = ApiKey(
    prefix="0a1b2c3d",
    key_hash=b"",
    owner=an_owner(),
    name="",
    scopes=frozenset(),
    tier="free",
    created_at=NOW,
)


def test_a_key_is_shown_as_it_can_be_used() -> None:
    until = replace(KEY, expires_at=NOW + timedelta(days=2))
    gone = replace(KEY, expires_at=NOW)
    states = [key_state(key, NOW) for key in (KEY, until, gone, replace(gone, revoked_at=NOW))]
    assert states == ["valid", "until 2030-01-03", "expired", "revoked"]
