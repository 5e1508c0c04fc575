"""Keys are recognised quickly, and forgotten soon enough."""

import asyncio
import hmac
from asyncio import Event
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from service.api.api_keys import KeyRing
from service.api.auth import Authenticator, Principal
from service.api.problems import Problem
from service.domain import api_keys
from service.domain.api_keys import RANDOM_BYTES, NewKey, format_key
from service.domain.errors import Unavailable
from service.domain.job import Owner
from service.domain.tiers import FREE, PRO
from service.ports.access import ApiKey
from service.supervision import Background
from service.telemetry.metrics import LOST_MARKS
from tests.fixtures.waiting import eventually
from tests.unit.api.requests import a_request

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@dataclass
class MemoryKeyStore:
    """Keys in memory; it can be away, and it can take its time."""

    keys: dict[str, ApiKey] = field(default_factory=dict)
    finds: Counter[str] = field(default_factory=Counter)
    touched: list[str] = field(default_factory=list)
    error: Exception | None = None
    touch_error: Exception | None = None
    may_answer: Event = field(default_factory=Event)

    async def find(self, prefix: str) -> ApiKey | None:
        self.finds[prefix] += 1
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        return self.keys.get(prefix)

    async def touch(self, prefix: str) -> None:
        if self.touch_error is not None:
            raise self.touch_error
        self.touched.append(prefix)


class Clock:
    """A monotonic clock that tests turn."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds - 1000.0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> MemoryKeyStore:
    made = MemoryKeyStore()
    made.may_answer.set()
    return made


@pytest.fixture
def authenticator(store: MemoryKeyStore, background: Background, clock: Clock) -> Authenticator:
    return Authenticator(KeyRing(store, background, clock=clock, now=clock.now).recognise)


def add_key(store: MemoryKeyStore, seed: int = 1) -> tuple[NewKey, ApiKey]:
    """Store a key of the tier `pro`."""
    key = format_key(bytes([seed]) * RANDOM_BYTES)
    stored = ApiKey(
        prefix=key.prefix,
        key_hash=key.key_hash,
        owner=Owner("acme", "alice"),
        name="test",
        scopes=frozenset({"jobs:read"}),
        tier="pro",
        created_at=NOW,
    )
    store.keys[key.prefix] = stored
    return key, stored


async def sign_in(authenticator: Authenticator, text: str) -> Principal:
    """Authenticate with a bearer key."""
    return await authenticator.authenticate(a_request(headers={"Authorization": f"Bearer {text}"}))


async def is_refused(authenticator: Authenticator, text: str) -> bool:
    """Whether a key is answered with 401."""
    try:
        await sign_in(authenticator, text)
    except Problem as problem:
        return problem.status == 401
    return False


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Authorization", "Bearer {}"),
        ("Authorization", "bearer   {} "),
        ("X-API-Key", "{}"),
        ("X-API-Key", " {} "),
    ],
)
async def test_a_key_is_taken_from_either_header(
    authenticator: Authenticator, store: MemoryKeyStore, header: str, value: str
) -> None:
    key, _ = add_key(store)
    principal = await authenticator.authenticate(
        a_request(headers={header: value.format(key.text)})
    )
    caller = f"key:{key.prefix}"
    assert principal == Principal(Owner("acme", "alice"), frozenset({"jobs:read"}), PRO, caller)


async def test_another_scheme_does_not_hide_a_key(
    authenticator: Authenticator, store: MemoryKeyStore
) -> None:
    key, _ = add_key(store)
    headers = {"Authorization": "Basic dXNlcjpwdw==", "X-API-Key": key.text}
    assert (await authenticator.authenticate(a_request(headers=headers))).owner.user_id == "alice"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer not-a-key"},
        {"Authorization": "Basic dXNlcjpwdw=="},
        {"X-API-Key": ""},
        {"X-API-Key": "usa_0101_x"},
        {"X-API-Key": "usa_01010101_" + "x" * 5000},
    ],
)
async def test_what_is_no_key_is_refused_without_a_look_up(
    authenticator: Authenticator, store: MemoryKeyStore, headers: dict[str, str]
) -> None:
    with pytest.raises(Problem) as caught:
        await authenticator.authenticate(a_request(headers=headers))
    assert (caught.value.status, caught.value.code) == (401, "UNAUTHORIZED")
    assert not store.finds


async def test_the_right_prefix_with_a_wrong_secret_is_refused(
    authenticator: Authenticator, store: MemoryKeyStore
) -> None:
    key, _ = add_key(store)
    assert await is_refused(authenticator, key.text[:-1] + ("A" if key.text[-1] != "A" else "B"))
    assert not await is_refused(authenticator, key.text)


async def test_an_unknown_key_and_a_wrong_secret_take_the_same_way_to_the_same_answer(
    authenticator: Authenticator, store: MemoryKeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, _ = add_key(store)
    compared: list[tuple[bytes, bytes]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(api_keys, "hmac", SimpleNamespace(compare_digest=compare))
    answers = []
    for text in (f"usa_{key.prefix}_wrong", "usa_ffffffff_wrong", "malformed"):
        with pytest.raises(Problem) as caught:
            await sign_in(authenticator, text)
        answers.append(caught.value)
    assert answers[0] == answers[1] == answers[2]
    assert [(len(one), len(other)) for one, other in compared] == [(32, 32), (32, 32)]
    assert store.finds == {key.prefix: 1, "ffffffff": 1}


async def test_a_key_is_looked_up_once_per_half_minute(
    authenticator: Authenticator, store: MemoryKeyStore, clock: Clock
) -> None:
    key, _ = add_key(store)
    for _ in range(3):
        await sign_in(authenticator, key.text)
    clock.seconds += 29.9
    await sign_in(authenticator, key.text)
    assert store.finds[key.prefix] == 1

    clock.seconds += 0.2
    await sign_in(authenticator, key.text)
    assert store.finds[key.prefix] == 2


async def test_a_revocation_takes_effect_within_half_a_minute(
    authenticator: Authenticator, store: MemoryKeyStore, clock: Clock
) -> None:
    key, stored = add_key(store)
    await sign_in(authenticator, key.text)
    store.keys[key.prefix] = replace(stored, revoked_at=NOW)
    clock.seconds += 30
    assert await is_refused(authenticator, key.text)


async def test_an_expired_key_is_refused_even_while_it_is_remembered(
    authenticator: Authenticator, store: MemoryKeyStore, clock: Clock
) -> None:
    key, stored = add_key(store)
    store.keys[key.prefix] = replace(stored, expires_at=NOW + timedelta(seconds=10))
    assert not await is_refused(authenticator, key.text)
    clock.seconds += 10
    assert await is_refused(authenticator, key.text)
    assert store.finds[key.prefix] == 1


async def test_a_new_key_works_within_five_seconds(
    authenticator: Authenticator, store: MemoryKeyStore, clock: Clock
) -> None:
    key, stored = add_key(store)
    del store.keys[key.prefix]
    assert await is_refused(authenticator, key.text)
    store.keys[key.prefix] = stored
    assert await is_refused(authenticator, key.text)
    assert store.finds[key.prefix] == 1

    clock.seconds += 5
    assert not await is_refused(authenticator, key.text)


async def test_a_tier_of_a_later_version_means_the_strictest(
    authenticator: Authenticator, store: MemoryKeyStore
) -> None:
    key, stored = add_key(store)
    store.keys[key.prefix] = replace(stored, tier="platinum")
    assert (await sign_in(authenticator, key.text)).tier == FREE


async def test_a_users_own_limits_replace_those_of_the_tier(
    authenticator: Authenticator, store: MemoryKeyStore
) -> None:
    key, stored = add_key(store)
    store.keys[key.prefix] = replace(stored, overrides={"story_bytes": 7, "tokens_per_day": None})
    tier = (await sign_in(authenticator, key.text)).tier
    assert (tier.story_bytes, tier.tokens_per_day) == (7, None)
    assert tier.requests_per_day == PRO.requests_per_day


async def test_requests_that_come_together_share_one_look_up(
    authenticator: Authenticator, store: MemoryKeyStore
) -> None:
    key, _ = add_key(store)
    store.may_answer.clear()
    waiting = [asyncio.create_task(sign_in(authenticator, key.text)) for _ in range(20)]
    await eventually(lambda: store.finds[key.prefix])
    store.may_answer.set()
    principals = await asyncio.gather(*waiting)
    assert {principal.owner.user_id for principal in principals} == {"alice"}
    assert store.finds[key.prefix] == 1


@pytest.mark.parametrize("leaver", [0, 1])
async def test_a_caller_that_leaves_takes_nobody_with_it(
    authenticator: Authenticator, store: MemoryKeyStore, leaver: int
) -> None:
    key, _ = add_key(store)
    store.may_answer.clear()
    waiting = [asyncio.create_task(sign_in(authenticator, key.text)) for _ in range(3)]
    await eventually(lambda: store.finds[key.prefix])
    waiting.pop(leaver).cancel()
    await asyncio.sleep(0)
    store.may_answer.set()
    principals = await asyncio.gather(*waiting)
    assert [principal.owner.user_id for principal in principals] == ["alice", "alice"]
    assert store.finds[key.prefix] == 1


async def test_without_the_store_nobody_is_refused_as_unknown(
    authenticator: Authenticator, store: MemoryKeyStore
) -> None:
    key, _ = add_key(store)
    store.error = Unavailable("Postgres")
    for _ in range(2):
        with pytest.raises(Unavailable):
            await sign_in(authenticator, key.text)
    store.error = None
    assert not await is_refused(authenticator, key.text)


async def test_a_remembered_key_works_without_the_store(
    authenticator: Authenticator, store: MemoryKeyStore
) -> None:
    key, _ = add_key(store)
    await sign_in(authenticator, key.text)
    store.error = Unavailable("Postgres")
    assert not await is_refused(authenticator, key.text)


async def test_guessed_prefixes_cannot_push_a_key_out(
    store: MemoryKeyStore, background: Background, clock: Clock
) -> None:
    ring = KeyRing(store, background, clock=clock, now=clock.now, most_remembered=10)
    authenticator = Authenticator(ring.recognise)
    key, _ = add_key(store)
    await sign_in(authenticator, key.text)
    for guess in range(30):
        assert await is_refused(authenticator, f"usa_{guess:08x}_guess")
    await sign_in(authenticator, key.text)
    assert store.finds[key.prefix] == 1
    assert len(ring._unknown) == 10


async def test_the_use_of_a_key_is_noted_once_per_look_up(
    authenticator: Authenticator, store: MemoryKeyStore, clock: Clock
) -> None:
    key, _ = add_key(store)
    for _ in range(3):
        await sign_in(authenticator, key.text)
    await eventually(lambda: store.touched == [key.prefix])
    clock.seconds += 30
    await sign_in(authenticator, key.text)
    await eventually(lambda: store.touched == [key.prefix] * 2)


async def test_a_use_that_cannot_be_noted_is_counted_and_harms_nobody(
    authenticator: Authenticator, store: MemoryKeyStore, background: Background
) -> None:
    key, _ = add_key(store)
    store.touch_error = Unavailable("Postgres")
    lost = LOST_MARKS.labels(write="touch_key")
    before = lost._value.get()
    assert not await is_refused(authenticator, key.text)
    await eventually(lambda: lost._value.get() == before + 1)
    await eventually(lambda: len(background) == 0)


async def test_a_key_sees_its_users_jobs_or_its_tenants() -> None:
    own = Principal(Owner("acme", "alice"), frozenset({"jobs:read"}), PRO, "key:1")
    scopes = frozenset({"jobs:read", "jobs:tenant"})
    wide = Principal(Owner("acme", "alice"), scopes, PRO, "key:2")
    assert (own.visible_user, wide.visible_user) == ("alice", None)
