"""Fixtures every test may ask for."""

import signal

# A module comes before those that import it, or its assertions could not be rewritten.
pytest_plugins = [
    "tests.fixtures.background",
    "tests.fixtures.servers",
    "tests.fixtures.database",
    "tests.fixtures.api",
    "tests.fixtures.collector",
    "tests.fixtures.deployment",
    "tests.fixtures.model_stub",
    "tests.fixtures.oidc",
    "tests.fixtures.processes",
    "tests.fixtures.streams",
]


def pytest_configure() -> None:
    """Hear Ctrl-C, and let all children hear it, also in the background of a shell.

    POSIX lets a shell without job control start what is in the background with SIGINT ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
