"""What the group's bookkeeping says about recorded entries: delivered, pending, or lost."""

from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from service.ports.upkeep import StreamState
from service.streams import keys
from service.streams.connection import Client, is_missing_group, redis_errors, translate
from service.streams.job_stream import ensure_group

EntryId = tuple[int, int]

_NOTHING: EntryId = (0, 0)


class RedisPending:
    """Answers the reconciler's questions about entries."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def ensure_streams(self) -> bool:
        """Create what is missing; returns whether a stream, its group or everything was lost.

        Readers recreate the streams, too: after the loss of everything this tells of it all the
        same, once.
        """
        was_missing = await ensure_group(self._client)
        with redis_errors():
            is_new = bool(await self._client.set(keys.EPOCH, "1", nx=True))
        return was_missing or is_new

    async def state(self, attempt: int) -> StreamState:
        """Describe the stream that entries of such an attempt are in."""
        stream = keys.job_stream(attempt)
        with redis_errors():
            last_delivered = await self._last_delivered(stream)
            first: Any = await self._client.xrange(stream, count=1)
            last: Any = await self._client.xrevrange(stream, count=1)
        span = (_place(first[0]), _place(last[0])) if first and last else None
        return StreamState(last_delivered, span)

    async def _last_delivered(self, stream: str) -> EntryId:
        try:
            groups = await self._client.xinfo_groups(stream)
        except ResponseError as error:
            if "no such key" not in str(error):
                raise
            return _NOTHING
        for group in groups:
            if group["name"] == keys.GROUP.encode():
                return parse_entry_id(group["last-delivered-id"].decode())
        return _NOTHING

    async def undelivered(self, attempt: int, entry_ids: Sequence[str]) -> list[bool]:
        """Tell, for each entry of such an attempt's stream, whether it is still to come."""
        stream = keys.job_stream(attempt)
        with redis_errors():
            pipeline = self._client.pipeline(transaction=False)
            for entry_id in entry_ids:
                pipeline.xrange(stream, entry_id, entry_id)
            found: Any = await pipeline.execute(raise_on_error=False)
            # Asked afterwards: an entry delivered meanwhile is somebody's by now.
            last_delivered = await self._last_delivered(stream)
        return [_is_there(reply) and _place(reply[0]) > last_delivered for reply in found]

    async def not_pending(self, entries: Sequence[tuple[int, str]]) -> list[bool]:
        """Tell, for each (attempt, entry id), whether nobody holds it."""
        with redis_errors():
            pipeline = self._client.pipeline(transaction=False)
            for attempt, entry_id in entries:
                stream = keys.job_stream(attempt)
                pipeline.xpending_range(stream, keys.GROUP, entry_id, entry_id, 1)
            replies = await pipeline.execute(raise_on_error=False)
        return [_is_nobodys(reply) for reply in replies]


def _is_nobodys(reply: object) -> bool:
    if not isinstance(reply, Exception):
        return not reply
    if isinstance(reply, ResponseError) and (is_missing_group(reply) or _is_no_id(reply)):
        return True
    raise translate(reply)


def _is_there(reply: object) -> bool:
    if not isinstance(reply, Exception):
        return bool(reply)
    if isinstance(reply, ResponseError) and _is_no_id(reply):
        return False
    raise translate(reply)


def _place(entry: tuple[bytes, object]) -> EntryId:
    return parse_entry_id(entry[0].decode())


def _is_no_id(error: ResponseError) -> bool:
    return "Invalid stream ID" in str(error)


def parse_entry_id(text: str) -> EntryId:
    """Read `<ms>-<seq>` as a comparable pair."""
    milliseconds, _, sequence = text.partition("-")
    return int(milliseconds), int(sequence or 0)
