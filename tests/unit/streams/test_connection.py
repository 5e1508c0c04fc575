"""Which errors of a server pass by themselves."""

import pytest
from redis._parsers.base import BaseParser
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    DataError,
    InvalidResponse,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from service.domain.errors import Unavailable
from service.streams.connection import is_missing_group, redis_errors, translate

SCRIPT_OF_6_2 = "ERR Error running script (call to f_e81): @user_script:1: @user_script: 1: "


def answer(text: str) -> Exception:
    """The error that the driver makes of a server's answer."""
    error: Exception = BaseParser.parse_error(text)  # type: ignore[no-untyped-call]
    return error


PASSING = [
    "OOM command not allowed when used memory > 'maxmemory'.",
    "OOM command not allowed when used memory > 'maxmemory'. script: on @user_script:1.",
    SCRIPT_OF_6_2 + "-OOM command not allowed when used memory > 'maxmemory'.",
    "READONLY You can't write against a read only replica.",
    SCRIPT_OF_6_2 + "-READONLY You can't write against a read only replica.",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "NOREPLICAS Not enough good replicas to write.",
    "@user_script: 1: -NOREPLICAS Not enough good replicas to write.",
    "MISCONF Valkey is configured to save RDB snapshots, but it's currently unable to persist.",
    "BUSY Valkey is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "LOADING Valkey is loading the dataset in memory",
    "CLUSTERDOWN Hash slot not served",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "ERR max number of clients reached",
]
LASTING = [
    "BUSYGROUP Consumer Group name already exists",
    "NOGROUP No such key '{usa}:jobs' or consumer group 'workers'",
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "NOSCRIPT No matching script.",
    "NOPERM User default has no permissions to run the 'xpending' command",
    "ERR unknown command 'OOM '",
    SCRIPT_OF_6_2 + "Script attempted to access nonexistent global variable",
]


@pytest.mark.parametrize("text", PASSING)
async def test_a_server_that_is_full_busy_loading_or_demoted_is_unavailable(text: str) -> None:
    error = answer(text)
    with pytest.raises(Unavailable, match="Redis") as unavailable, redis_errors():
        raise error
    assert unavailable.value.__cause__ is error
    assert isinstance(translate(error), Unavailable)


@pytest.mark.parametrize("text", LASTING)
async def test_an_answer_that_waiting_does_not_change_stays_what_it_is(text: str) -> None:
    error = answer(text)
    with pytest.raises(ResponseError) as raised, redis_errors():
        raise error
    assert raised.value is error
    assert translate(error) is error


@pytest.mark.parametrize(
    "error",
    [
        RedisConnectionError("closed"),
        RedisTimeoutError("slow"),
        BusyLoadingError("loading"),
        AuthenticationError("wrong password"),
        InvalidResponse("Protocol Error"),
        ConnectionRefusedError(111, "refused"),
        TimeoutError(),
    ],
)
def test_a_server_that_does_not_answer_is_unavailable(error: Exception) -> None:
    assert isinstance(translate(error), Unavailable)


@pytest.mark.parametrize("error", [ValueError("ours"), DataError("ours"), NoPermissionError("no")])
async def test_our_own_mistakes_are_no_outage(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, redis_errors():
        raise error
    assert raised.value is error


@pytest.mark.parametrize(
    "text",
    [
        "NOGROUP No such key '{usa}:jobs' or consumer group 'workers' in XREADGROUP with GROUP opt",
        "NOGROUP the consumer group this client was blocked on no longer exists",
        "UNBLOCKED the stream key no longer exists",
        "UNBLOCKED force unblock from blocking operation, instance state changed",
    ],
)
def test_a_lost_group_is_recognised_on_every_server(text: str) -> None:
    error = answer(text)
    assert isinstance(error, RedisError)
    assert is_missing_group(error)


@pytest.mark.parametrize("text", [*PASSING, *LASTING])
def test_nothing_else_is_taken_for_a_lost_group(text: str) -> None:
    error = answer(text)
    assert isinstance(error, RedisError)
    assert is_missing_group(error) is text.startswith("NOGROUP")
