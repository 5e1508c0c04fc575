"""The calls of those who operate the queue; they take a key with the scope `admin`."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson
from yarl import URL

from service.client.api_client import ApiClient
from service.domain.job import JsonObject

_AS_JSON = {"Content-Type": "application/json"}


class OperatorClient(ApiClient):
    """Also looks at the queue, pauses it, and redrives everybody's failed jobs."""

    async def queue(self) -> JsonObject:
        """Read how much there is to do; `{status, pause, jobs, streams}`."""
        return await self._json("GET", self._admin("queue"))

    async def pause(self, reason: str | None = None) -> JsonObject:
        """Let no worker start another job; `{paused, since, by, reason}`."""
        body = orjson.dumps({} if reason is None else {"reason": reason})
        return await self._json("POST", self._admin("pause"), headers=_AS_JSON, data=body)

    async def resume(self) -> JsonObject:
        """Let workers start jobs again; `{paused, ...}`."""
        return await self._json("POST", self._admin("resume"))

    async def list_dead_letters(
        self, *, code: str | None = None, limit: int = 20, cursor: str | None = None
    ) -> JsonObject:
        """Read a page of failed jobs, newest first; `{deadLetters, nextCursor}`."""
        asked = {"code": code, "limit": str(limit), "cursor": cursor}
        query = {key: value for key, value in asked.items() if value is not None}
        return await self._json("GET", self._dead_letters() % query)

    async def redrive_dead_letters(self, job_ids: Sequence[UUID]) -> JsonObject:
        """Queue failed jobs again; `{redriven, refused}`."""
        return await self._redrive({"ids": [str(job_id) for job_id in job_ids]})

    async def redrive_code(self, code: str, limit: int) -> JsonObject:
        """Queue jobs again that failed with this code, those first that failed first.

        Asked once only: repeated, it would take as many jobs again. `{redriven, refused}`.
        """
        return await self._redrive({"code": code, "limit": limit}, once=True)

    async def _redrive(self, order: JsonObject, **call: Any) -> JsonObject:
        url, body = self._dead_letters("redrive"), orjson.dumps(order)
        return await self._json("POST", url, headers=_AS_JSON, data=body, **call)

    def _dead_letters(self, *path: str) -> URL:
        return self._admin("dead-letters", *path)

    def _admin(self, *path: str) -> URL:
        return self._base.joinpath("api", "v1", "admin", *path)
