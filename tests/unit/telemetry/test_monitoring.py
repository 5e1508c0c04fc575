"""Whether a dependency answers, however it fails to."""

import asyncio

import pytest

from service.domain.errors import Unavailable
from service.telemetry import monitoring
from service.telemetry.monitoring import check


async def test_a_dependency_that_answers_is_there() -> None:
    async def probe() -> None:
        """Answer."""

    assert await check(probe)


@pytest.mark.parametrize("error", [Unavailable("Postgres"), TimeoutError(), ValueError("odd")])
async def test_a_dependency_whose_probe_fails_is_not_there(error: Exception) -> None:
    async def probe() -> None:
        raise error

    assert not await check(probe)


async def test_a_dependency_that_takes_too_long_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(monitoring, "_PROBE_SECONDS", 0.01)

    async def probe() -> None:
        await asyncio.Event().wait()

    assert not await check(probe)
