"""What the HTTP server has to say below our handlers."""

import logging

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError

from service.telemetry.logs import get_log

_log = get_log(__name__)


class _FaultsOfClients(logging.Filter):
    """Leaves out the tracebacks of what only clients can do wrong.

    A request that is no HTTP is one line, which says what kind of error it was and nothing
    else: a broken header may hold a key.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record says something about us."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            _log.info("malformed_http", error=type(error).__name__)
        # The last two come after an answer, while the rest of a body is thrown away.
        return not isinstance(error, HttpProcessingError | RequestPayloadError | ConnectionError)


_FAULTS_OF_CLIENTS = _FaultsOfClients()


def protocol_log() -> logging.Logger:
    """Return the log for the HTTP server; whoever sends nonsense cannot fill it."""
    logger = logging.getLogger("service.api.protocol")
    logger.addFilter(_FAULTS_OF_CLIENTS)
    return logger
