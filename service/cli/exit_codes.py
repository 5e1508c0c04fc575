"""What each exit code tells a script."""

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended; `meaning` is what --help says."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> "ExitCode":
        code = int.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code

    OK = 0, "done; for a server: stopped because it was asked to"
    CRASHED = 1, "something unexpected; the traceback or the log says what"
    USAGE = 2, "the command line is wrong"
    SETTINGS = 3, "a setting or the API key is missing or wrong"
    UNAVAILABLE = 4, "the service, Redis or Postgres does not answer"
    REFUSED = 5, "the service refused the request"
    JOB_FAILED = 6, "the job failed"
    JOB_CANCELLED = 7, "the job was cancelled"
    JOB_NOT_ENDED = 8, "the job has no result yet"
    CANNOT_START = 9, "a port is taken, an agent is broken, a server program does not start"
    SCHEMA = 10, "migrations are missing, or a role of Postgres lacks grants or sees too much"
    UNHEALTHY = 11, "`usa doctor` found what keeps the service from working"
    INTERRUPTED = 130, "Ctrl-C; a job that was followed runs on"


def help_text() -> str:
    """List all codes, one a line."""
    return "\n".join(["Exit codes:", *(f"{code:>3}  {code.meaning}" for code in ExitCode)])
