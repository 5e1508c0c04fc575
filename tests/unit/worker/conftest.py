"""What every test of a worker without servers needs."""

from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    """What is logged; shown to nobody, because these tests crash a lot."""
    with capture_logs() as logs:
        yield logs
