"""What the group's bookkeeping says about recorded entries: delivered, pending, or lost."""

from collections.abc import Sequence
from typing import cast

from redis.exceptions import ResponseError

from service.ports import StreamState
from service.streams import keys
from service.streams.connection import Client, is_missing_group, redis_errors
from service.streams.job_stream import ensure_group

EntryId = tuple[int, int]


class RedisPending:
    """Answers the reconciler's questions about entries."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def ensure_streams(self) -> bool:
        """Create what is missing; returns whether Redis had lost everything."""
        return await ensure_group(self._client)

    async def state(self, attempt: int) -> StreamState:
        """Describe the stream that entries of such an attempt are in."""
        stream = keys.job_stream(attempt)
        with redis_errors():
            groups = await self._client.xinfo_groups(stream)
            first = await self._client.xrange(stream, count=1)
        last_delivered = next(
            g["last-delivered-id"] for g in groups if g["name"] == keys.GROUP.encode()
        )
        return StreamState(
            parse_entry_id(last_delivered.decode()),
            parse_entry_id(cast("bytes", first[0][0]).decode()) if first else None,
        )

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
    if isinstance(reply, ResponseError):
        if is_missing_group(reply):
            return True
        raise reply
    return not reply


def parse_entry_id(text: str) -> EntryId:
    """Read `<ms>-<seq>` as a comparable pair."""
    milliseconds, _, sequence = text.partition("-")
    return int(milliseconds), int(sequence or 0)
