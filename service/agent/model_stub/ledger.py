"""What the stub was asked and what it would have billed."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from service.domain.job import JsonObject
from service.domain.usage import Usage


@dataclass(slots=True, kw_only=True)
class StubCall:
    """One request; times are monotonic seconds, and `ended` is None while it runs.

    `connection` is the client's port: calls over the same connection have the same.
    `billed` is what was read and written until the call ended, however it ended.
    """

    id: str
    headers: dict[str, str]
    connection: int
    started: float
    body: JsonObject = field(default_factory=dict)
    status: int | None = None
    billed: Usage = field(default_factory=Usage)
    fault: str | None = None
    completed: bool = False
    closed_early: bool = False
    ended: float | None = None

    @property
    def model(self) -> str | None:
        """The model that was asked for."""
        model = self.body.get("model")
        return model if isinstance(model, str) else None

    def as_json(self) -> dict[str, Any]:
        """The call without its headers and contents, for the file."""
        return {
            "id": self.id,
            "model": self.model,
            "status": self.status,
            "billed": self.billed.as_json(),
            "fault": self.fault,
            "completed": self.completed,
            "closedEarly": self.closed_early,
            "started": self.started,
            "ended": self.ended,
        }


class Ledger:
    """Every request in the order of its arrival, and in a file if a path is given."""

    def __init__(self, path: Path | None = None) -> None:
        self.calls: list[StubCall] = []
        self._path = path

    def open(self, headers: dict[str, str], connection: int) -> StubCall:
        """Note that a request came in."""
        number = len(self.calls) + 1
        call = StubCall(
            id=f"req_stub_{number:06d}",
            headers=headers,
            connection=connection,
            started=time.monotonic(),
        )
        self.calls.append(call)
        return call

    def close(self, call: StubCall) -> None:
        """Note that a request ended, and append it to the file."""
        call.ended = time.monotonic()
        if self._path is not None:
            with self._path.open("ab") as file:
                file.write(orjson.dumps(call.as_json(), option=orjson.OPT_APPEND_NEWLINE))
