"""The two job streams and their consumer group, as one consumer sees them."""

from collections import defaultdict
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, cast
from uuid import UUID

from redis.exceptions import ResponseError

from service.domain.attempt import Delivery
from service.streams import keys, scripts
from service.streams.connection import Client, is_missing_group, redis_errors
from service.telemetry.logs import get_log
from service.telemetry.metrics import GROUPS_CREATED
from service.telemetry.tracing import Kind, span

_log = get_log(__name__)

_READ_ORDER = (keys.AGAIN, keys.JOBS)
_PAGE = 1000
_FREE_AT_ONCE_MS = 3_600_000


async def ensure_group(client: Client) -> bool:
    """Create the streams and their group, from the beginning, where missing.

    Returns whether any was. Whoever is the first to miss one counts it.
    """
    with redis_errors():
        return any([await _create_if_missing(client, stream) for stream in _READ_ORDER])


async def _create_if_missing(client: Client, stream: str) -> bool:
    try:
        await client.xgroup_create(stream, keys.GROUP, id="0", mkstream=True)
    except ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):
            raise
        return False
    GROUPS_CREATED.labels(stream=stream.rpartition(":")[2]).inc()
    _log.info("group_created", stream=stream)
    return True


@contextmanager
def _sending(stream: str, trace_parent: str | None) -> Iterator[str | None]:
    """Trace the sending of a job that has a trace; yields what its entry is to carry on."""
    if trace_parent is None:
        yield None
        return
    about = {"messaging.system": "redis", "messaging.operation.type": "send",
             "messaging.destination.name": stream}  # fmt: skip
    with span(Kind.PRODUCER, f"send {stream}", parent=trace_parent, attributes=about) as sent:
        yield sent.trace_parent or trace_parent


class RedisEntryWriter:
    """Adds entries through a client that never repeats a command."""

    def __init__(self, once: Client) -> None:
        self._once = once

    async def add_entry(self, job_id: UUID, attempt: int, trace_parent: str | None) -> Delivery:
        """XADD once; first starts go to `jobs`, all others to `again`."""
        stream = keys.job_stream(attempt)
        fields: dict[Any, Any] = {"job": str(job_id)}
        with _sending(stream, trace_parent) as carried:
            if carried:
                fields["trace"] = carried
            with redis_errors():
                entry_id = cast("bytes", await self._once.xadd(stream, fields))
        return Delivery(stream, entry_id.decode(), job_id, carried)


class RedisJobStream:
    """Reads, reclaims, acknowledges and releases entries for one consumer.

    `once` must be a client of its own whose timeout exceeds `block`; never cancel a task that
    is inside a read: its entries would be delivered to nobody. A read that fails may have been
    given entries all the same: `read_own_pending` returns them.
    """

    def __init__(
        self, once: Client, commands: Client, *, consumer: str, block: float, min_idle: float
    ) -> None:
        self._once = once
        self._commands = commands
        self._consumer = consumer
        self._block_ms = max(1, int(block * 1000))  # BLOCK 0 would wait for ever
        self._min_idle_ms = int(min_idle * 1000)
        self._cursors = dict.fromkeys(_READ_ORDER, "0-0")

    async def read_new(self, count: int) -> list[Delivery]:
        """Wait briefly for new entries: all of `again` before any of `jobs`.

        May return more than `count` when both streams wake the wait in the same moment.
        """
        again = await self._read({keys.AGAIN: ">"}, count, block=None)
        if again:
            return again
        return await self._read(dict.fromkeys(_READ_ORDER, ">"), count, self._block_ms)

    async def read_own_pending(self) -> list[Delivery]:
        """Read again what was delivered to this consumer and never acknowledged."""
        return [each for stream in _READ_ORDER for each in await self._own_pending(stream)]

    async def _own_pending(self, stream: str) -> list[Delivery]:
        found: list[Delivery] = []
        position = "0"
        while page := (await self._ask({stream: position}, _PAGE, None)).get(stream.encode()):
            found += await self._parse(stream, page)
            position = page[-1][0].decode()
        return found

    async def _read(
        self, positions: dict[Any, Any], count: int, block: int | None
    ) -> list[Delivery]:
        reply = await self._ask(positions, count, block)
        found: list[Delivery] = []
        for stream in positions:
            found += await self._parse(stream, reply.get(stream.encode(), []))
        return found

    async def _ask(
        self, positions: dict[Any, Any], count: int, block: int | None
    ) -> dict[bytes, Any]:
        try:
            with redis_errors():
                return cast(
                    "dict[bytes, Any]",
                    await self._once.xreadgroup(
                        keys.GROUP, self._consumer, {**positions}, count=count, block=block
                    ),
                )
        except ResponseError as error:
            if not is_missing_group(error):
                raise
            _log.warning("group_recreated", reason=str(error))
            await ensure_group(self._commands)
            return {}

    async def _parse(self, stream: str, entries: Sequence[Any]) -> list[Delivery]:
        deliveries: list[Delivery] = []
        unreadable: list[str] = []
        for entry_id, fields in entries:
            delivery = _delivery(stream, entry_id, fields)
            if delivery is None:
                unreadable.append(entry_id.decode())
            else:
                deliveries.append(delivery)
        if unreadable:
            _log.warning("unreadable_entries_dropped", stream=stream, entries=unreadable)
            await self._ack(stream, unreadable)
        return deliveries

    async def reclaim(self, count: int) -> list[Delivery]:
        """Take over entries idle for longer than a lease, scanning each stream to its end."""
        taken: list[Delivery] = []
        for stream in _READ_ORDER:
            while len(taken) < count:
                batch = await self._autoclaim(stream, count - len(taken))
                taken += batch
                if self._cursors[stream] == "0-0":
                    break
        return taken

    async def _autoclaim(self, stream: str, count: int) -> list[Delivery]:
        try:
            with redis_errors():
                # Redis 6.2 answers two items with nil for deleted entries, later ones three.
                reply: Any = await self._once.xautoclaim(
                    stream,
                    keys.GROUP,
                    self._consumer,
                    min_idle_time=self._min_idle_ms,
                    start_id=self._cursors[stream],
                    count=count,
                )
        except ResponseError as error:
            self._cursors[stream] = "0-0"
            if not is_missing_group(error):
                raise
            _log.warning("group_recreated", reason=str(error))
            await ensure_group(self._commands)
            return []
        self._cursors[stream] = reply[0].decode()
        entries = [entry for entry in reply[1] if entry[0] is not None]
        if len(entries) < len(reply[1]):
            # Deleted, yet pending for us now: reading our own entries drops them.
            await self._own_pending(stream)
        return await self._parse(stream, entries)

    async def acknowledge_if_owner(self, deliveries: Sequence[Delivery]) -> int:
        """Acknowledge and delete the entries that are still this consumer's."""
        return await self._each_stream(deliveries, self._ack)

    async def _ack(self, stream: str, entry_ids: Sequence[str]) -> int:
        with redis_errors():
            return await scripts.ack_if_owner(
                self._commands,
                stream=stream,
                group=keys.GROUP,
                consumer=self._consumer,
                entry_ids=entry_ids,
            )

    async def release_if_owner(self, deliveries: Sequence[Delivery]) -> int:
        """Make this consumer's entries free to be reclaimed at once."""
        return await self._each_stream(deliveries, self._release)

    async def _release(self, stream: str, entry_ids: Sequence[str]) -> int:
        with redis_errors():
            return await scripts.release_if_owner(
                self._commands,
                stream=stream,
                group=keys.GROUP,
                consumer=self._consumer,
                idle_ms=max(_FREE_AT_ONCE_MS, self._min_idle_ms),
                entry_ids=entry_ids,
            )

    async def leave(self) -> None:
        """Remove this consumer from the group, unless entries are still pending for it."""
        with redis_errors():
            for stream in _READ_ORDER:
                await scripts.remove_consumer_if_idle(
                    self._commands,
                    stream=stream,
                    group=keys.GROUP,
                    idle_ms=0,
                    consumer=self._consumer,
                )

    async def _each_stream(self, deliveries: Sequence[Delivery], act: "_PerStream") -> int:
        by_stream: dict[str, list[str]] = defaultdict(list)
        for delivery in deliveries:
            by_stream[delivery.stream].append(delivery.entry_id)
        return sum([await act(stream, ids) for stream, ids in by_stream.items()])


class RedisEntryLeases:
    """Renews pending entries from the lease thread, on connections of its own."""

    def __init__(self, client: Client, *, consumer: str) -> None:
        self._client = client
        self._consumer = consumer

    async def renew_if_owner(self, deliveries: Sequence[Delivery]) -> int:
        """Reset the idle time of the entries that are still this consumer's."""
        renewed = 0
        for stream in _READ_ORDER:
            entry_ids = [d.entry_id for d in deliveries if d.stream == stream]
            if not entry_ids:
                continue
            with redis_errors():
                renewed += await scripts.renew_if_owner(
                    self._client,
                    stream=stream,
                    group=keys.GROUP,
                    consumer=self._consumer,
                    entry_ids=entry_ids,
                )
        return renewed


class _PerStream(Protocol):
    def __call__(self, stream: str, entry_ids: Sequence[str]) -> Awaitable[int]: ...


def _delivery(stream: str, entry_id: bytes, fields: Any) -> Delivery | None:
    try:
        job_id = UUID((fields or {})[b"job"].decode())
    except (KeyError, ValueError):
        return None
    trace: str = fields.get(b"trace", b"").decode("ascii", "replace")
    return Delivery(stream, entry_id.decode(), job_id, trace or None)
