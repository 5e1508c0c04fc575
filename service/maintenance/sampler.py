"""Exports what the queue holds, from one of all processes."""

from contextlib import AsyncExitStack, suppress
from time import monotonic

from service.domain.errors import Unavailable
from service.ports.queue_control import StreamCounter, StreamCounts
from service.ports.sampling import QueueSample, SampleStore, TakeSample
from service.telemetry.metrics import (
    DEAD_LETTERS,
    QUEUE_JOBS,
    QUEUE_LEASES_EXPIRED,
    QUEUE_OLDEST_AGE_SECONDS,
    QUEUE_PAUSED_SECONDS,
    STREAM_ENTRIES,
    STREAM_LAG,
    STREAM_PENDING,
)

_OF_ROWS = (
    QUEUE_JOBS,
    QUEUE_OLDEST_AGE_SECONDS,
    QUEUE_LEASES_EXPIRED,
    QUEUE_PAUSED_SECONDS,
    DEAD_LETTERS,
)
_OF_STREAMS = (STREAM_ENTRIES, STREAM_LAG, STREAM_PENDING)

# A transaction that stays open for hours looks like a fault, to people and to their tools.
_LONGEST_TERM = 300.0
# Rounds that a value may outlive.
_KEPT_ROUNDS = 3


class Sampler:
    """Samples for as long as it holds the lock; without it, it exports nothing.

    `run_once` is to be called every `interval` seconds, and `leave` at the end.
    """

    def __init__(self, rows: SampleStore, streams: StreamCounter, *, interval: float) -> None:
        self._rows = rows
        self._streams = streams
        self._lasting = _KEPT_ROUNDS * interval
        self._term = AsyncExitStack()
        self._take: TakeSample | None = None
        self._ends_at = 0.0

    async def run_once(self) -> None:
        """Export what holds now, if it is this process' turn; raises `Unavailable`."""
        if self._take is not None and monotonic() >= self._ends_at:
            await self.leave()
        if self._take is None:
            await self._enter()
        if self._take is not None:
            await self._export_rows(self._take)
            await self._export_streams()

    async def _enter(self) -> None:
        self._take = await self._term.enter_async_context(self._rows.only_sampler())
        if self._take is None:
            await self._term.aclose()
        self._ends_at = monotonic() + _LONGEST_TERM

    async def leave(self) -> None:
        """Export nothing any more, and let another process sample."""
        for gauge in (*_OF_ROWS, *_OF_STREAMS):
            gauge.hide()
        self._take = None
        # Of a connection that is gone, nothing is left to give back.
        with suppress(Unavailable):
            await self._term.aclose()

    async def _export_rows(self, take: TakeSample) -> None:
        try:
            sample = await take()
        except BaseException:
            await self.leave()
            raise
        _show(sample, self._lasting)

    async def _export_streams(self) -> None:
        try:
            counts = await self._streams.count_entries()
        except BaseException:
            for gauge in _OF_STREAMS:
                gauge.hide()
            raise
        lasting = self._lasting
        STREAM_LAG.show(
            {_labels(each): each.lag for each in counts if each.lag is not None}, lasting=lasting
        )
        STREAM_ENTRIES.show({_labels(each): each.entries for each in counts}, lasting=lasting)
        STREAM_PENDING.show({_labels(each): each.pending for each in counts}, lasting=lasting)


def _labels(counts: StreamCounts) -> tuple[str, ...]:
    return (counts.stream.rpartition(":")[2],)


def _show(sample: QueueSample, lasting: float) -> None:
    QUEUE_JOBS.show(
        {
            ("queued",): sample.queued,
            ("waiting",): sample.waiting,
            ("processing",): sample.processing,
        },
        lasting=lasting,
    )
    QUEUE_OLDEST_AGE_SECONDS.show(
        {
            ("queued",): sample.queued_for,
            ("waiting",): sample.waiting_for,
            ("processing",): sample.processing_for,
        },
        lasting=lasting,
    )
    QUEUE_LEASES_EXPIRED.show({(): sample.leases_expired}, lasting=lasting)
    QUEUE_PAUSED_SECONDS.show({(): sample.paused_for}, lasting=lasting)
    DEAD_LETTERS.show({(): sample.failed}, lasting=lasting)
