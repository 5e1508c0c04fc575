"""Turns every expected error into one line that says what to do, and an exit code."""

import errno
import re
from collections.abc import Callable, Mapping
from typing import Any

from service.cli.exit_codes import ExitCode

_TRY_AGAIN = "try again later, or look at the service's log"


class Failure(Exception):
    """An end that was to be expected: what the user reads, and the exit code."""

    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(message)
        self.code = code


def explain(error: Exception) -> Failure | None:
    """Return what an error means to the user; None if nobody expected it."""
    if isinstance(error, Failure):
        return error
    for kind in type(error).__mro__:
        describe = EXPLANATIONS.get(f"{kind.__module__}.{kind.__qualname__}")
        if describe is not None:
            return describe(error)
    return None


def cannot_listen(error: OSError, ports: Mapping[int, str]) -> Failure:
    """Explain why a server got no address; `ports` maps each port to the variable that sets it."""
    port = _port_in(error, ports)
    variable = ports.get(port or 0, "PORT")
    where = f"port {port}" if port else "the address"
    match error.errno:
        case errno.EADDRINUSE:
            what = f"{where} is in use: stop what uses it, or choose another with {variable}=..."
        case errno.EACCES:
            what = f"{where} is not open to this user: choose one above 1023 with {variable}=..."
        case _:
            what = f"cannot listen on {where}: {error.strerror or error}; check USA_HOST"
    return Failure(what, ExitCode.CANNOT_START)


def _port_in(error: OSError, ports: Mapping[int, str]) -> int | None:
    # asyncio puts the address into the text and nowhere else.
    found = re.search(r"\('[^']*', (\d+)", str(error))
    if found is not None:
        return int(found[1])
    return next(iter(ports), None)


def _wrong_settings(error: Any) -> Failure | None:
    from service.cli.variables import SETTINGS, problems_in

    if error.title not in SETTINGS:
        return None
    return Failure("\n".join(problems_in(error)), ExitCode.SETTINGS)


def _refused(error: Any) -> Failure:
    told = [f"{each.field}: {each.message}" for each in error.errors]
    detail = "; ".join(told) if told else error.detail
    if error.status == 401:
        return Failure(
            f"the service does not know this key ({detail}): set USA_API_KEY, or make a key with"
            " `usa keys create`",
            ExitCode.SETTINGS,
        )
    if error.status >= 500:
        return Failure(f"the service cannot do this now: {detail}; {_TRY_AGAIN}", _UNAVAILABLE)
    wait = "" if error.retry_after is None else f"; try again in {error.retry_after:.0f} s"
    return Failure(f"refused: {detail} ({error.code}){wait}", ExitCode.REFUSED)


def _unreachable(error: Any) -> Failure:
    advice = (
        _TRY_AGAIN
        if error.was_sent
        else "start one with `usa up`, or set USA_API_URL to where it is"
    )
    return Failure(f"{error}; {advice}", _UNAVAILABLE)


def _unexpected(error: Any) -> Failure:
    return Failure(f"{error}; check USA_API_URL", _UNAVAILABLE)


def _embedded(error: Any) -> Failure:
    return Failure(str(error), _CANNOT_START)


def _broken_plug_in(error: Any) -> Failure:
    return Failure(f"{error}; install a version that works, or uninstall it", _CANNOT_START)


def _missing_extra(error: Any) -> Failure:
    return Failure(str(error), ExitCode.SETTINGS)


def _server_away(error: Any) -> Failure:
    cause = f" ({error.__cause__})" if str(error.__cause__ or "") else ""
    return Failure(f"{error}{cause}: check {_variable(error.what)}", _UNAVAILABLE)


def _postgres(error: Any) -> Failure:
    return Failure(f"Postgres refuses: {error}; check DATABASE_URL", _UNAVAILABLE)


def _redis(error: Any) -> Failure:
    return Failure(f"Redis refuses: {error}; check REDIS_URL", _UNAVAILABLE)


def _schema(error: Any) -> Failure:
    return Failure(str(error), ExitCode.SCHEMA)


def _no_model_key(error: Any) -> Failure:
    return Failure(f"{error}; with USA_MODEL=offline no model is called", ExitCode.SETTINGS)


def _variable(server: str) -> str:
    return "REDIS_URL" if server == "Redis" else "DATABASE_URL"


_UNAVAILABLE = ExitCode.UNAVAILABLE
_CANNOT_START = ExitCode.CANNOT_START

# By name, so that explaining an error never loads a server into a client.
EXPLANATIONS: Mapping[str, Callable[[Any], Failure | None]] = {
    "pydantic_core._pydantic_core.ValidationError": _wrong_settings,
    "service.client.errors.ApiProblem": _refused,
    "service.client.errors.Unreachable": _unreachable,
    "service.client.errors.UnexpectedReply": _unexpected,
    "service.embedded.errors.EmbeddedServerError": _embedded,
    "service.domain.errors.Unavailable": _server_away,
    "service.postgres.schema.SchemaMismatch": _schema,
    "service.bootstrap.plug_ins.BrokenPlugIn": _broken_plug_in,
    "service.bootstrap.extras.MissingExtra": _missing_extra,
    "service.agent.anthropic_model.MissingApiKey": _no_model_key,
    "asyncpg.exceptions.InvalidAuthorizationSpecificationError": _postgres,
    "asyncpg.exceptions.InvalidCatalogNameError": _postgres,
    "asyncpg.exceptions.InsufficientPrivilegeError": _postgres,
    "redis.exceptions.NoPermissionError": _redis,
}
