"""Fixtures every test may ask for."""

pytest_plugins = ["tests.fixtures.model_stub", "tests.fixtures.servers"]
