"""An issuer is asked rarely, trusted only as far as it goes, and may be away."""

import asyncio
from typing import Any

import pytest
from aiohttp import web

from service.api import oidc
from service.api.oidc import IssuerKeys, signing_keys
from service.domain.errors import Unavailable
from service.supervision import Background
from tests.fixtures.background import Clock
from tests.fixtures.oidc import CONFIGURATION, KEY_SET, Answer, Issuer, ec_key, published, rsa_key
from tests.fixtures.waiting import eventually

ALGORITHMS = ("RS256", "ES256")


@pytest.fixture
def keys(issuer: Issuer, background: Background, clock: Clock) -> IssuerKeys:
    return IssuerKeys(issuer.address, ALGORITHMS, background, clock=clock)


async def test_all_who_come_at_once_share_one_look(keys: IssuerKeys, issuer: Issuer) -> None:
    found = await asyncio.gather(*(keys.find("first", "RS256") for _ in range(50)))
    assert all(found)
    assert issuer.fetches == {CONFIGURATION: 1, KEY_SET: 1}


async def test_a_key_is_found_by_its_algorithm_too(keys: IssuerKeys) -> None:
    assert await keys.find("second", "ES256") is not None
    assert await keys.find("second", "RS256") is None


async def test_a_withdrawn_key_is_unknown_after_five_minutes(
    keys: IssuerKeys, issuer: Issuer, clock: Clock
) -> None:
    assert await keys.find("first", "RS256")
    del issuer.keys["first"]
    clock.seconds += 299
    assert await keys.find("first", "RS256")
    assert issuer.fetches[KEY_SET] == 1

    clock.seconds += 2
    assert await keys.find("first", "RS256") is None
    assert issuer.fetches[KEY_SET] == 2


async def test_a_new_key_is_found_within_ten_seconds(
    keys: IssuerKeys, issuer: Issuer, clock: Clock
) -> None:
    assert await keys.find("first", "RS256")
    issuer.keys["third"] = rsa_key(3)
    clock.seconds += 10
    assert await keys.find("third", "RS256")
    assert issuer.fetches[KEY_SET] == 2


async def test_keys_that_somebody_makes_up_are_no_reason_to_ask_again_and_again(
    keys: IssuerKeys, issuer: Issuer, clock: Clock
) -> None:
    for number in range(1000):
        assert await keys.find(f"made-up-{number}", "RS256") is None
    assert issuer.fetches[KEY_SET] == 1

    clock.seconds += 10
    made_up = [keys.find(f"another-{number}", "RS256") for number in range(1000)]
    assert set(await asyncio.gather(*made_up)) == {None}
    assert issuer.fetches[KEY_SET] == 2


async def test_while_the_issuer_is_away_its_known_keys_stay_usable_for_a_day(
    keys: IssuerKeys, issuer: Issuer, clock: Clock
) -> None:
    assert await keys.find("first", "RS256")
    issuer.is_down = True
    clock.seconds += 3600
    assert await keys.find("first", "RS256")
    tried = issuer.fetches[CONFIGURATION]
    assert tried > 1
    assert await keys.find("first", "RS256")
    assert issuer.fetches[CONFIGURATION] == tried

    with pytest.raises(Unavailable):
        await keys.find("unknown", "RS256")
    clock.seconds += 86_400
    with pytest.raises(Unavailable):
        await keys.find("first", "RS256")


async def test_only_the_first_caller_waits_for_an_issuer_that_hangs(
    keys: IssuerKeys, issuer: Issuer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = asyncio.Event()

    async def hang(_: web.Request) -> web.StreamResponse:
        await answers.wait()
        return web.json_response({"issuer": issuer.address, "jwks_uri": issuer.address + KEY_SET})

    assert await keys.find("first", "RS256")
    issuer.instead[CONFIGURATION] = hang
    monkeypatch.setattr(oidc, "_ANSWERED_WITHIN", 0.1)
    clock.seconds += 301
    assert await keys.find("first", "RS256")

    monkeypatch.setattr(oidc, "_ANSWERED_WITHIN", 3600)
    clock.seconds += 5
    async with asyncio.timeout(10):
        assert await keys.find("first", "RS256")

    del issuer.keys["first"]
    answers.set()

    async def is_withdrawn() -> bool:
        return await keys.find("first", "RS256") is None

    await eventually(is_withdrawn, what="the issuer's answer is taken in")


async def test_an_issuer_that_is_away_is_tried_again_after_five_seconds(
    keys: IssuerKeys, issuer: Issuer, clock: Clock
) -> None:
    issuer.is_down = True
    with pytest.raises(Unavailable):
        await keys.find("first", "RS256")
    issuer.is_down = False
    with pytest.raises(Unavailable):
        await keys.find("first", "RS256")
    assert issuer.fetches[KEY_SET] == 0

    clock.seconds += 5
    assert await keys.find("first", "RS256")


def json_of(document: Any) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(document)

    return answer


def bytes_of(body: bytes, status: int = 200) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status)

    return answer


async def lead_elsewhere(_: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("/elsewhere")


async def never_end(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * 65_536)


async def say_nothing(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    await eventually(request.transport.is_closing, what="the caller gives up")
    return web.Response()


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (CONFIGURATION, bytes_of(b"{}", 404)),
        (CONFIGURATION, bytes_of(b"not JSON")),
        (CONFIGURATION, bytes_of(b"[" * 100_000)),
        (CONFIGURATION, bytes_of(b"[]")),
        (CONFIGURATION, lead_elsewhere),
        (CONFIGURATION, never_end),
        (CONFIGURATION, say_nothing),
        (CONFIGURATION, json_of({"issuer": "https://issuer.example"})),
        (KEY_SET, bytes_of(b"{}", 500)),
        (KEY_SET, bytes_of(b"{}")),
        (KEY_SET, bytes_of(b'{"keys": {}}')),
        (KEY_SET, json_of({"keys": [{}] * 101})),
        (KEY_SET, lead_elsewhere),
        (KEY_SET, never_end),
        (KEY_SET, say_nothing),
    ],
)
async def test_an_answer_that_cannot_be_read_is_no_answer(
    keys: IssuerKeys, issuer: Issuer, path: str, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "_ANSWERED_WITHIN", 0.5)
    issuer.instead = {path: answer, "/elsewhere": json_of({})}
    with pytest.raises(Unavailable):
        await keys.find("first", "RS256")
    assert issuer.fetches[path] == 1
    assert issuer.fetches["/elsewhere"] == 0


@pytest.mark.parametrize(
    "address",
    [None, 1, "", "/keys", "http://keys.example", "file:///etc/passwd", "https://", "https://["],
)
async def test_keys_are_not_fetched_from_where_somebody_could_listen_or_nowhere(
    keys: IssuerKeys, issuer: Issuer, address: object
) -> None:
    document = {"issuer": issuer.address, "jwks_uri": address}
    issuer.instead = {CONFIGURATION: json_of(document)}
    with pytest.raises(Unavailable):
        await keys.find("first", "RS256")
    assert issuer.fetches == {CONFIGURATION: 1}


def test_only_keys_that_can_be_used_are_read() -> None:
    good = published("good", rsa_key())
    of_another_use = published("for-encryption", rsa_key(), use="enc")
    of_another_algorithm = published("other-algorithm", rsa_key(), alg="PS256")
    a_secret = {"kid": "secret", "kty": "oct", "k": "c2VjcmV0"}
    broken = [{"kid": "broken", "kty": "RSA", "n": 1, "e": ["x"]}, {"kid": "broken", "kty": "EC"}]
    nameless = {**good, "kid": None}
    others = [of_another_use, of_another_algorithm, a_secret, *broken, nameless, None, "key", []]
    found = signing_keys([*others, good, published("curve", ec_key())], (*ALGORITHMS, "RS512"))
    assert set(found) == {("good", "RS256"), ("good", "RS512"), ("curve", "ES256")}


def test_the_private_half_of_a_key_is_not_even_read() -> None:
    good = published("good", rsa_key())
    found = signing_keys([{**good, "d": "AQAB"}], ALGORITHMS)
    assert not hasattr(found["good", "RS256"].key, "private_numbers")
