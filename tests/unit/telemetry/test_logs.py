"""Records: one JSON object a line, whole, and without secrets."""

import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import count
from typing import Any
from uuid import UUID

import orjson
import pytest
import structlog
from structlog.contextvars import bound_contextvars

from service.domain.job import Owner
from service.telemetry import audit
from service.telemetry.logs import AUDIT_LOG, configure_logs, get_log

Written = Callable[[], str]
Records = Callable[[], list[dict[str, Any]]]

QUIET = ("aiohttp.access", "httpx2")
_WITH_LEVELS = (*QUIET, AUDIT_LOG)
_names = count()


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Iterator[Written]:
    """What went to standard error; everything is configured back afterwards."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, [logging.getLogger(name).level for name in _WITH_LEVELS]
    yield lambda: capsys.readouterr().err
    root.handlers[:], level, quiet = before
    root.setLevel(level)
    for name, its_level in zip(_WITH_LEVELS, quiet, strict=True):
        logging.getLogger(name).setLevel(its_level)
    structlog.reset_defaults()


@pytest.fixture
def records(written: Written) -> Records:
    """The records written since the last look, read as JSON."""
    return lambda: [orjson.loads(line) for line in written().splitlines()]


@pytest.fixture
def log() -> structlog.stdlib.BoundLogger:
    """A logger that nobody has used before the logs were configured."""
    return get_log(f"test{next(_names)}")


def test_a_record_is_one_json_object_with_event_level_and_time(
    records: Records, log: structlog.stdlib.BoundLogger
) -> None:
    configure_logs()
    log.info("job_claimed", job=UUID(int=7), seconds=0.5)
    (record,) = records()
    assert datetime.fromisoformat(record.pop("timestamp")).tzinfo is not None
    assert record == {
        "event": "job_claimed", "level": "info", "job": str(UUID(int=7)), "seconds": 0.5,
    }  # fmt: skip


def test_who_did_what_is_written_whatever_the_least_severity_is(
    records: Records, log: structlog.stdlib.BoundLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_log", get_log(AUDIT_LOG))
    configure_logs("ERROR")
    log.warning("another")
    audit.audit(
        "create_job", audit.Outcome.ALLOWED, caller="key:1", owner=Owner("acme", "ann"), status=202
    )
    (record,) = records()
    del record["timestamp"]
    assert record == {
        "event": "audit", "level": "info", "action": "create_job", "outcome": "allowed",
        "caller": "key:1", "tenant": "acme", "user": "ann", "status": 202,
    }  # fmt: skip


def test_records_of_libraries_have_the_same_shape(records: Records) -> None:
    configure_logs()
    logging.getLogger("some.library").warning("lost %d of %d", 1, 2)
    (record,) = records()
    assert (record["event"], record["level"]) == ("lost 1 of 2", "warning")
    assert "timestamp" in record


def test_an_exception_is_written_with_its_traceback_in_the_same_line(
    records: Records, log: structlog.stdlib.BoundLogger
) -> None:
    configure_logs()
    try:
        raise ValueError("odd")
    except ValueError as error:
        log.exception("it_broke")
        log.error("it_broke", exc_info=error)
        logging.getLogger("some.library").exception("it broke")
    found = records()
    assert len(found) == 3
    for record in found:
        assert record["exception"].startswith("Traceback")
        assert "ValueError: odd" in record["exception"]


def test_what_is_bound_to_the_context_is_in_every_record(
    records: Records, log: structlog.stdlib.BoundLogger
) -> None:
    configure_logs()
    with bound_contextvars(job="7", attempt=2):
        log.info("ours")
        logging.getLogger("some.library").warning("theirs")
    log.info("after")
    ours, theirs, after = records()
    assert (ours["job"], ours["attempt"]) == (theirs["job"], theirs["attempt"]) == ("7", 2)
    assert "job" not in after


@pytest.mark.parametrize(
    "key",
    [
        "authorization", "Authorization", "api_key", "X-API-Key", "x_api_key", "password", "story",
        "dsn", "redis_url", "database_url", "anthropic_api_key", "Cookie",
    ],
)  # fmt: skip
def test_secrets_and_stories_are_never_written(
    written: Written, records: Records, log: structlog.stdlib.BoundLogger, key: str
) -> None:
    configure_logs()
    log.info("seen", **{key: "hunter2"}, headers={key: "hunter2", "Accept": "text/html"})
    line = written()
    assert "hunter2" not in line
    record = orjson.loads(line)
    assert record[key] == "[redacted]"
    assert record["headers"] == {key: "[redacted]", "Accept": "text/html"}


@pytest.mark.parametrize(
    "value",
    ["half a character: \ud800", 2**70, {1: "one"}, {(1, 2): "pair"}, float("nan"), b"\xff"],
)
def test_no_value_costs_the_record(
    records: Records, log: structlog.stdlib.BoundLogger, value: object
) -> None:
    configure_logs()
    log.info("kept", value=value)
    (record,) = records()
    assert record["event"] == "kept"


def test_what_is_below_the_level_is_not_written(
    written: Written, log: structlog.stdlib.BoundLogger
) -> None:
    configure_logs("WARNING")
    log.info("quiet")
    logging.getLogger("some.library").info("quiet")
    log.warning("loud")
    assert [orjson.loads(line)["event"] for line in written().splitlines()] == ["loud"]


@pytest.mark.parametrize("name", QUIET)
def test_libraries_do_not_log_every_request_beside_us(records: Records, name: str) -> None:
    configure_logs()
    logging.getLogger(name).info("GET / 200")
    assert records() == []


def test_text_is_for_people_and_keeps_exceptions(
    written: Written, log: structlog.stdlib.BoundLogger
) -> None:
    configure_logs(as_json=False)
    try:
        raise ValueError("odd")
    except ValueError:
        log.exception("it_broke", job="7", story="As a user")
    text = written()
    assert "it_broke" in text
    assert "job=7" in text
    assert "ValueError: odd" in text
    assert "As a user" not in text


def test_configuring_twice_does_not_write_twice(
    records: Records, log: structlog.stdlib.BoundLogger
) -> None:
    configure_logs()
    configure_logs()
    log.info("once")
    assert len(records()) == 1
