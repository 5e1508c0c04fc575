"""Which errors mean that the server is away, and which that the caller's values are bad."""

import asyncpg
import pytest
from asyncpg.exceptions import TargetServerAttributeNotMatched

from service.domain.errors import Unavailable
from service.postgres.pool import BAD_ITEMS, postgres_errors


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        ConnectionResetError(),
        FileNotFoundError("no socket"),
        TimeoutError(),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.ConnectionDoesNotExistError("closed in the middle of an operation"),
        asyncpg.CannotConnectNowError("the database system is starting up"),
        asyncpg.AdminShutdownError("terminating connection"),
        asyncpg.CrashShutdownError("terminating connection"),
        asyncpg.QueryCanceledError("statement timeout"),
        asyncpg.TooManyConnectionsError("too many clients"),
        asyncpg.DiskFullError("no space left on device"),
        asyncpg.PostgresIOError("could not read block"),
        asyncpg.LockNotAvailableError("lock timeout"),
        asyncpg.ReadOnlySQLTransactionError("after a failover"),
        asyncpg.IdleInTransactionSessionTimeoutError("terminating connection"),
        TargetServerAttributeNotMatched("no primary"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_server_that_is_away_is_unavailable(error: Exception) -> None:
    with pytest.raises(Unavailable) as raised, postgres_errors():
        raise error

    assert raised.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.exceptions._base.DataError("invalid input for query argument $1"),
        asyncpg.NumericValueOutOfRangeError("numeric field overflow"),
        asyncpg.CharacterNotInRepertoireError("invalid byte sequence"),
        asyncpg.UntranslatableCharacterError("unsupported Unicode escape sequence"),
        asyncpg.CheckViolationError("violates check constraint"),
        asyncpg.UniqueViolationError("duplicate key"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_values_that_can_never_be_written_are_no_outage(error: Exception) -> None:
    with pytest.raises(type(error)), postgres_errors():
        raise error

    assert isinstance(error, BAD_ITEMS)


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InvalidPasswordError("password authentication failed"),
        asyncpg.InvalidCatalogNameError("database does not exist"),
        asyncpg.UndefinedTableError("relation does not exist"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_wrong_configuration_is_not_waited_out(error: Exception) -> None:
    with pytest.raises(type(error)), postgres_errors():
        raise error
