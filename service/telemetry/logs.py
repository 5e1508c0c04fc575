"""Structured logs through the standard library, JSON for machines or columns for people."""

import json
import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

import orjson
import structlog

# Its records are written whatever the least severity is.
AUDIT_LOG: Final = "audit"

_SECRET_KEYS = frozenset(
    {
        "anthropic_api_key",
        "api_key",
        "authorization",
        "cookie",
        "database_url",
        "dsn",
        "password",
        "redis_url",
        "secret",
        "story",
        "x_api_key",
    }
)


def _redact(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        event[key] = _redacted(key, value)
    return event


def _redacted(key: object, value: Any) -> Any:
    if str(key).lower().replace("-", "_") in _SECRET_KEYS:
        return "[redacted]"
    if isinstance(value, Mapping):
        return {inner: _redacted(inner, each) for inner, each in value.items()}
    return value


def _to_json(event: Any, **_: Any) -> str:
    try:
        return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # a huge number or half a character must not cost the record
        text = json.dumps(event, default=str, skipkeys=True, ensure_ascii=False)
        return text.encode(errors="replace").decode()


def configure_logs(level: str = "INFO", *, as_json: bool = True) -> None:
    """Send every record, ours and the libraries', to standard error in one format."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redact,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer(serializer=_to_json)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Every request is logged by our own middleware, with its id and without its secrets.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    logging.getLogger(AUDIT_LOG).setLevel(logging.INFO)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def get_log(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module; its events are stable snake_case word groups."""
    log: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return log
