"""Fixtures every test may ask for."""

# A module comes before those that import it, or its assertions could not be rewritten.
pytest_plugins = [
    "tests.fixtures.servers",
    "tests.fixtures.database",
    "tests.fixtures.api",
    "tests.fixtures.deployment",
    "tests.fixtures.model_stub",
    "tests.fixtures.processes",
    "tests.fixtures.streams",
]
