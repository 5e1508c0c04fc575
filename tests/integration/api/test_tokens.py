"""A token opens the door only if its issuer made it, for us, for now, and for somebody."""

import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from jwt import PyJWS

from service.api.auth import Authenticator, Principal
from service.api.jwt_bearer import TokenReader
from service.api.oidc import IssuerKeys
from service.api.problems import Problem
from service.api.user_limits import UserLimits
from service.domain.api_keys import Scope
from service.domain.errors import Unavailable
from service.domain.job import Owner
from service.domain.tiers import ENTERPRISE, FREE, PRO, Overrides, Tier
from service.supervision import Background
from tests.fixtures.background import Clock
from tests.fixtures.oidc import (
    AUDIENCE,
    Issuer,
    ec_key,
    pem,
    rsa_key,
    signed_with_secret,
    token_rules,
    unsigned,
)
from tests.unit.api.requests import a_request

IN_2100 = 4_102_444_800


@dataclass
class MemoryLimits:
    """Limits in memory, and how often they were asked for."""

    overrides: dict[Owner, Overrides] = field(default_factory=dict)
    finds: Counter[Owner] = field(default_factory=Counter)
    is_away: bool = False

    async def find(self, owner: Owner) -> Overrides:
        self.finds[owner] += 1
        if self.is_away:
            raise Unavailable("Postgres")
        return self.overrides.get(owner, {})


@pytest.fixture
def limits() -> MemoryLimits:
    return MemoryLimits()


@pytest.fixture
async def reader(issuer: Issuer, limits: MemoryLimits, clock: Clock) -> AsyncIterator[TokenReader]:
    background = Background()
    rules = token_rules(issuer)
    keys = IssuerKeys(issuer.address, rules.algorithms, background)
    yield TokenReader(rules, keys, UserLimits(limits, background, clock=clock))
    await background.cancel()


@pytest.mark.parametrize("key_id", ["first", "second"])
async def test_a_token_says_who_its_bearer_is(
    reader: TokenReader, issuer: Issuer, key_id: str
) -> None:
    who = hashlib.sha256(f"{issuer.address}\nacme\nalice".encode()).hexdigest()[:12]
    assert await reader.recognise(issuer.token(key_id)) == Principal(
        Owner("acme", "alice"),
        frozenset({"jobs:read", "jobs:write", "usage:read"}),
        ENTERPRISE,
        f"jwt:{who}",
    )


async def test_users_of_one_name_are_told_apart_by_their_tenants(
    reader: TokenReader, issuer: Issuer
) -> None:
    # Else one tenant could use up what another may read in a minute.
    callers = {
        (await reader.recognise(issuer.token(tenant=tenant))).caller for tenant in ("acme", "rival")
    }
    assert len(callers) == 2


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("jobs:read", {"jobs:read"}),
        ("openid  jobs:read usage:read", {"jobs:read", "usage:read"}),
        ("jobs:read jobs:tenant admin", {"jobs:read"}),
        (["jobs:read", "profile"], {"jobs:read"}),
        ([["jobs:read"], 1, None], set()),
        ({"jobs:read": True}, set()),
        ("JOBS:READ jobs:readwrite", set()),
        (7, set()),
        (None, set()),
    ],
)
async def test_scopes_are_words_or_a_list_and_those_of_others_are_left_out(
    reader: TokenReader, issuer: Issuer, given: object, expected: set[str]
) -> None:
    assert (await reader.recognise(issuer.token(scope=given))).scopes == expected


async def test_a_token_may_operate_the_queue_only_where_tokens_may(
    reader: TokenReader, issuer: Issuer, limits: MemoryLimits
) -> None:
    background = Background()
    rules = replace(token_rules(issuer), scopes=frozenset({Scope.ADMIN}))
    keys = IssuerKeys(issuer.address, rules.algorithms, background)
    trusting = TokenReader(rules, keys, UserLimits(limits, background))
    token = issuer.token(scope="jobs:read admin")
    assert (await trusting.recognise(token)).scopes == {"admin"}
    assert (await reader.recognise(token)).scopes == {"jobs:read"}
    await background.cancel()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("pro", PRO),
        ("enterprise", ENTERPRISE),
        ("unlimited", FREE),
        ("Unlimited", FREE),
        ("platinum", FREE),
        (None, FREE),
        (["unlimited"], FREE),
        ({}, FREE),
    ],
)
async def test_no_token_lifts_all_limits(
    reader: TokenReader, issuer: Issuer, given: object, expected: Tier
) -> None:
    assert (await reader.recognise(issuer.token(tier=given))).tier == expected


async def test_a_users_own_limits_take_effect_within_half_a_minute(
    reader: TokenReader, issuer: Issuer, limits: MemoryLimits, clock: Clock
) -> None:
    alice = Owner("acme", "alice")
    assert (await reader.recognise(issuer.token(tier="pro"))).tier == PRO
    limits.overrides[alice] = {"concurrent_jobs": 20, "requests_per_day": None}
    clock.seconds += 29.9
    assert (await reader.recognise(issuer.token(tier="pro"))).tier == PRO
    assert limits.finds == {alice: 1}

    clock.seconds += 0.2
    tier = (await reader.recognise(issuer.token(tier="pro"))).tier
    assert (tier.concurrent_jobs, tier.requests_per_day) == (20, None)
    assert tier.iterations_per_job == PRO.iterations_per_job
    limits.is_away = True
    assert (await reader.recognise(issuer.token(tier="pro"))).tier == tier
    with pytest.raises(Unavailable):
        await reader.recognise(issuer.token(sub="bob"))


async def test_only_so_many_users_are_remembered(limits: MemoryLimits) -> None:
    background = Background()
    memory = UserLimits(limits, background, most_remembered=2)
    for user in ("a", "b", "c", "c", "a"):
        await memory.of(Owner("acme", user))
    assert limits.finds == {Owner("acme", "a"): 2, Owner("acme", "b"): 1, Owner("acme", "c"): 1}
    await background.cancel()


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": [AUDIENCE, "another"]},
        {"exp": timedelta(seconds=-20)},
        {"nbf": timedelta(seconds=20), "iat": timedelta(seconds=20)},
        {"exp": IN_2100 + 0.5, "iat": None},
        {"sub": "a" * 200, "tenant": "Größe 7"},
    ],
)
async def test_what_is_unusual_but_right_is_taken(
    reader: TokenReader, issuer: Issuer, claims: dict[str, Any]
) -> None:
    told = (await reader.recognise(issuer.token(**claims))).owner
    assert told.user_id == claims.get("sub", "alice")


@pytest.mark.parametrize("kind", ["JWT", "at+jwt", "application/at+jwt", None])
async def test_the_types_of_tokens_that_say_who_somebody_is_are_taken(
    reader: TokenReader, issuer: Issuer, kind: str | None
) -> None:
    token = issuer.token(head={"typ": kind or ""})
    assert (await reader.recognise(token)).owner.user_id == "alice"


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": None},
        {"iss": "https://issuer.example"},
        {"aud": None},
        {"aud": "another"},
        {"aud": []},
        {"aud": [AUDIENCE + "x"]},
        {"aud": {AUDIENCE: 1}},
        {"exp": None},
        {"exp": timedelta(seconds=-40)},
        {"exp": str(IN_2100)},
        {"exp": True},
        {"exp": float("nan")},
        {"exp": [IN_2100]},
        {"nbf": timedelta(seconds=60)},
        {"nbf": "1"},
        {"iat": timedelta(seconds=60)},
        {"iat": "yesterday"},
        {"iat": False},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "a" * 201},
        {"sub": "a\nb"},
        {"sub": "a\x00b"},
        {"sub": "\ud800"},
        {"tenant": None},
        {"tenant": ""},
        {"tenant": ["acme"]},
        {"tenant": "a" * 201},
        {"tenant": "\u202eacme"},
    ],
    ids=str,
)
async def test_a_token_that_says_something_wrong_is_refused(
    reader: TokenReader, issuer: Issuer, claims: dict[str, Any]
) -> None:
    assert await is_refused(reader, issuer.token(**claims))


async def is_refused(reader: TokenReader, token: str) -> bool:
    """Whether a token is answered with 401, and with nothing that says why."""
    with pytest.raises(Problem) as caught:
        await reader.recognise(token)
    problem = caught.value
    assert problem.detail == "the API key or token is unknown, expired or revoked"
    return (problem.status, problem.code) == (401, "UNAUTHORIZED")


def forgeries(issuer: Issuer) -> dict[str, str]:
    """Return tokens that say the right things and are none of the issuer's."""
    genuine, claims = issuer.token(), issuer.claims()
    head, body, signature = genuine.split(".")
    secret = pem(issuer.keys["first"])
    other = unsigned({"alg": "RS256", "kid": "first"}, {**claims, "tenant": "rival"})
    return {
        "alg none": unsigned({"alg": "none", "kid": "first"}, claims) + ".",
        "alg NONE": unsigned({"alg": "NONE", "kid": "first"}, claims) + f".{signature}",
        "no alg": unsigned({"kid": "first"}, claims) + f".{signature}",
        "alg list": unsigned({"alg": ["RS256"], "kid": "first"}, claims) + f".{signature}",
        "public key as secret": signed_with_secret(
            secret, {"alg": "HS256", "kid": "first"}, claims
        ),
        "said to be RS256": signed_with_secret(secret, {"alg": "RS256", "kid": "first"}, claims),
        "empty secret": signed_with_secret(b"", {"alg": "HS256", "kid": "first"}, claims),
        "another key": issuer.token(key=rsa_key(9)),
        "another curve key": issuer.token("second", key=ec_key(9)),
        "another's id": issuer.token("first", key=ec_key()),
        "an algorithm not allowed": issuer.token(head={"alg": "RS512"}),
        "no signature": f"{head}.{body}.",
        "another's signature": f"{other}.{signature}",
        "cut": genuine[:-4],
        "a key that is unknown": issuer.token(key=rsa_key(), head={"kid": "unknown"}),
        "a key of its own": unsigned(
            {"alg": "RS256", "kid": "own", "jku": issuer.address, "jwk": {}}, claims
        )
        + f".{signature}",
        "kid is a path": issuer.token(head={"kid": "../../etc/passwd"}),
        "kid is SQL": issuer.token(head={"kid": "' OR 1=1 --"}),
        "no kid": unsigned({"alg": "RS256"}, claims) + f".{signature}",
        "kid is a number": unsigned({"alg": "RS256", "kid": 1}, claims) + f".{signature}",
        "kid is null": unsigned({"alg": "RS256", "kid": None}, claims) + f".{signature}",
        "logout": issuer.token(head={"typ": "logout+jwt"}),
        "something critical": issuer.token(head={"crit": ["exp"], "exp": 1}),
        "detached": unsigned({"alg": "RS256", "kid": "first", "b64": False}, claims) + ".",
        "four parts": genuine + ".x",
        "two parts": f"{head}.{body}",
        "dots": "..",
        "nothing": "",
        "no JSON": f"bm8.{body}.{signature}",
        "a head that is a text": unsigned("x", claims) + ".",
        "not ASCII": genuine + "ä",
        "half a character": genuine + "\udc80",
    }


async def test_a_token_that_the_issuer_did_not_make_is_refused(
    reader: TokenReader, issuer: Issuer
) -> None:
    assert (await reader.recognise(issuer.token())).owner.user_id == "alice"
    forged = forgeries(issuer)
    taken = {name for name, token in forged.items() if not await is_refused(reader, token)}
    assert taken == set()


async def test_a_token_that_is_changed_anywhere_is_refused(
    reader: TokenReader, issuer: Issuer
) -> None:
    genuine = issuer.token()
    for place, character in enumerate(genuine):
        changed = "A" if character != "A" else "B"
        assert await is_refused(reader, genuine[:place] + changed + genuine[place + 1 :])


async def test_whatever_a_signed_token_says_it_is_taken_or_refused(
    reader: TokenReader, issuer: Issuer
) -> None:
    odd: list[Any] = [None, True, 0, -1, 1e308, float("inf"), float("nan"), 10**400]
    odd += ["", "x" * 9000, "\ud800", "\x00", "none", [], {}, [[]], [None], [1e400], {"a": {}}]
    answers: Counter[int] = Counter()
    for name in ("iss", "aud", "exp", "nbf", "iat", "jti", "sub", "tenant", "scope", "tier", "cnf"):
        for value in odd:
            claims = json.dumps({**issuer.claims(), name: value}).encode()
            token = PyJWS().encode(claims, issuer.keys["second"], "ES256", {"kid": "second"})
            answers[await answer(reader, token)] += 1
    assert answers.keys() == {200, 401}
    assert answers[200] < answers[401]


async def answer(reader: TokenReader, token: str) -> int:
    """The status that a token leads to."""
    try:
        await reader.recognise(token)
    except Problem as problem:
        return problem.status
    return 200


async def test_a_key_that_is_too_short_signs_nothing(reader: TokenReader, issuer: Issuer) -> None:
    issuer.keys["short"] = rsa_key(1, bits=1024)
    with pytest.warns(match="below the minimum"):
        token = issuer.token("short")
    assert await is_refused(reader, token)


async def test_keys_and_tokens_are_told_apart_by_how_they_begin() -> None:
    async def keys(text: str) -> Principal:
        return Principal(Owner("acme", text), frozenset(), FREE, "key")

    async def tokens(text: str) -> Principal:
        return Principal(Owner("acme", text), frozenset(), FREE, "token")

    async def ask(authenticator: Authenticator, header: str, value: str) -> str:
        return (await authenticator.authenticate(a_request(headers={header: value}))).caller

    both, only_keys = Authenticator(keys, tokens), Authenticator(keys)
    assert await ask(both, "Authorization", "Bearer usa_x") == "key"
    assert await ask(both, "Authorization", "Bearer eyJ") == "token"
    assert await ask(both, "X-API-Key", "eyJ") == "key"
    assert await ask(only_keys, "Authorization", "Bearer eyJ") == "key"
