"""How many streams and waits one user may have open in one process."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import web

from service.api.problems import too_many_requests
from service.domain.job import Owner
from service.telemetry.metrics import REQUESTS_LIMITED

_TRY_AGAIN_AFTER = 5.0


class Places:
    """Lends places to users; `what` is one of the things that take one."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._taken: Counter[Owner] = Counter()

    @contextmanager
    def taken_by(self, owner: Owner, most: int | None) -> Iterator[None]:
        """Hold a place inside this block; raises 429 if the user has `most` already."""
        if most is not None and self._taken[owner] >= most:
            REQUESTS_LIMITED.labels(what=self._what).inc()
            detail = f"{most} open {self._what}s at a time are allowed; let one of yours end first"
            raise too_many_requests(detail, _TRY_AGAIN_AFTER)
        self._taken[owner] += 1
        try:
            yield
        finally:
            self._taken[owner] -= 1
            if not self._taken[owner]:
                del self._taken[owner]


STREAMS: Final = web.AppKey("streams", Places)
WAITS: Final = web.AppKey("waits", Places)
