"""Acknowledges finished entries, those that end in the same moment together."""

from collections.abc import Sequence

from service.domain.attempt import Delivery
from service.domain.errors import Unavailable
from service.group_commit import GroupCommit
from service.ports.queue import JobStream
from service.supervision import Background
from service.telemetry.logs import get_log
from service.telemetry.metrics import LOST_MARKS

_log = get_log(__name__)


class Acknowledger:
    """The last step of everything: only what is committed and told is acknowledged."""

    def __init__(self, stream: JobStream, background: Background) -> None:
        self._stream = stream
        self._acks: GroupCommit[Delivery, None] = GroupCommit(
            "acknowledge", self._acknowledge_all, background
        )

    async def acknowledge(self, delivery: Delivery) -> None:
        """Acknowledge an entry; if Redis is away it will be delivered, and settled, again."""
        try:
            await self._acks.submit(delivery)
        except Unavailable as error:
            LOST_MARKS.labels(write="acknowledge").inc()
            _log.warning("acknowledgement_lost", job=str(delivery.job_id), error=str(error))

    async def _acknowledge_all(self, deliveries: Sequence[Delivery]) -> list[None]:
        await self._stream.acknowledge_if_owner(deliveries)
        return [None] * len(deliveries)
