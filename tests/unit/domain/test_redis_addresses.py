"""Addresses of Redis, taken apart."""

import pytest

from service.domain.redis_addresses import RedisKind, parse_redis_address

SECRET = "p-ssword"


@pytest.mark.parametrize(
    "text", ["redis://:x@redis:6379/5?db=1", "rediss://redis", "unix:///run/redis.sock?db=2"]
)
def test_the_address_of_one_server_is_left_to_the_driver(text: str) -> None:
    address = parse_redis_address(text)
    assert (address.kind, address.url) == (RedisKind.SERVER, text)


def test_sentinels_have_names_and_passwords_of_their_own() -> None:
    address = parse_redis_address(
        "rediss+sentinel://usa:its%40own@one:1,[::1]:2,three/stories/4"
        "?sentinel_username=asks&sentinel_password=a%26b&ssl_ca_certs=/ca.pem"
    )
    assert address.kind == RedisKind.SENTINEL
    assert address.servers == (("one", 1), ("::1", 2), ("three", 26379))
    assert address.service == "stories"
    assert (address.sentinel_username, address.sentinel_password) == ("asks", "a&b")
    assert address.url == "rediss://usa:its%40own@one:1/4?ssl_ca_certs=%2Fca.pem"


def test_sentinels_without_passwords_are_asked_without_any() -> None:
    address = parse_redis_address("redis+sentinel://one/stories")
    assert (address.servers, address.url) == ((("one", 26379),), "redis://one:26379/")
    assert (address.sentinel_username, address.sentinel_password) == (None, None)


def test_any_servers_of_a_cluster_lead_to_all() -> None:
    address = parse_redis_address("redis+cluster://usa:x@[::1],two:7/0")
    assert address.kind == RedisKind.CLUSTER
    assert address.servers == (("::1", 6379), ("two", 7))
    assert address.url == "redis://usa:x@[::1]:6379"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"redis://:{SECRET}@one,two/0", "only redis\\+sentinel:// and redis\\+cluster://"),
        (f"redis+sentinel://:{SECRET}@one", "/service or /service/database"),
        (f"redis+sentinel://:{SECRET}@one/", "/service or /service/database"),
        (f"redis+sentinel://:{SECRET}@one/stories/x", "/service or /service/database"),
        (f"redis+sentinel://:{SECRET}@one,/stories", "must have a name"),
        (f"redis+cluster://:{SECRET}@one/3", "no database but 0"),
        (f"redis+cluster://:{SECRET}@one?db=3", "no database but 0"),
        (f"redis+cluster://:{SECRET}@", "must have a name"),
        (f"redis+cluster://:{SECRET}@one,:{SECRET}@two", "once, before all hosts"),
        (f"redis+cluster://:{SECRET}@one:70000", "no valid host and port"),
        (f"redis+cluster://:{SECRET}\u2100@one", "no valid host and port"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused_and_not_shown(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        parse_redis_address(text)
    assert SECRET not in str(refused.value)


def test_what_an_address_looks_like_in_a_traceback_tells_no_password() -> None:
    text = f"redis+sentinel://usa:{SECRET}@one/stories?sentinel_password={SECRET}"
    assert SECRET not in repr(parse_redis_address(text))
