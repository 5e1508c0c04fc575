"""What becomes of an entry whose job could not be started."""

from service.domain.attempt import Claim, Verdict
from service.domain.errors import Unavailable
from service.domain.events import final_event
from service.ports.attempts import AttemptStore
from service.ports.events import EventLog
from service.ports.queue import JobStream
from service.supervision import Background
from service.telemetry.logs import get_log
from service.telemetry.metrics import JOBS_ENDED, LOST_MARKS
from service.worker.acknowledger import Acknowledger

_log = get_log(__name__)


class Unclaimed:
    """Acknowledges only what nobody needs any more; `event_retention` is in seconds."""

    def __init__(
        self,
        stream: JobStream,
        attempts: AttemptStore,
        events: EventLog,
        acknowledger: Acknowledger,
        background: Background,
        *,
        event_retention: float,
    ) -> None:
        self._stream = stream
        self._attempts = attempts
        self._events = events
        self._acknowledger = acknowledger
        self._background = background
        self._event_retention = event_retention

    def settle(self, claim: Claim) -> None:
        """Do what the verdict asks for, in the background."""
        self._background.spawn("settle", self._settle(claim))

    async def _settle(self, claim: Claim) -> None:
        match claim.verdict:
            case Verdict.TERMINAL | Verdict.FAILED:
                await self._end(claim)
            case Verdict.NOT_DUE | Verdict.LEASED_THROUGH_ANOTHER_ENTRY | Verdict.MISSING:
                await self._acknowledger.acknowledge(claim.delivery)
            case Verdict.SUSPECT_HELD:
                await self._release(claim)
            case Verdict.LEASED:
                # Its runner acknowledges it, or falls silent and the entry is reclaimed.
                _log.info("entry_left_pending", job=str(claim.delivery.job_id))

    async def _end(self, claim: Claim) -> None:
        """Make sure that the terminal event is there before the entry goes."""
        if claim.verdict is Verdict.FAILED:
            JOBS_ENDED.labels(status="failed").inc()
        job_id = claim.delivery.job_id
        try:
            job = claim.job or await self._attempts.get(job_id)
            event = final_event(job) if job is not None else None
            if event is not None:
                await self._events.append(job_id, [event], self._event_retention)
                await self._attempts.clear_event_pending(job_id, event.id)
        except Unavailable as error:
            LOST_MARKS.labels(write="final_event").inc()
            _log.warning("entry_left_pending", job=str(job_id), error=str(error))
            return
        await self._acknowledger.acknowledge(claim.delivery)

    async def _release(self, claim: Claim) -> None:
        try:
            await self._stream.release_if_owner([claim.delivery])
        except Unavailable as error:
            # It falls idle by itself, only later.
            LOST_MARKS.labels(write="release").inc()
            _log.warning("entry_not_released", job=str(claim.delivery.job_id), error=str(error))
