"""The model that chaos runs call: replies that follow from the job alone, and faults on demand."""

import re
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any

import orjson

from service.agent.model_stub import Fault, FaultKind, ModelStub, write_reply
from service.domain.job import JsonObject
from service.domain.story import LIST_PATHS
from tests.chaos.plan import Fate, PlannedJob

_NONCE = re.compile(rb"chaos-\d{6}")
_ALLOWED = re.compile(r"`([\w.]+)`")
_ITERATION = re.compile(r"# Your point of view in this call: (.+)")
_LIMITS = "Paths you may change:"
# Frames that a reply has on the wire, roughly: what its pace is divided by.
_FRAMES = 16
# An unusable reply twice in a row fails the job for good, so each job gets at most one.
_REFUSAL = Fault(kind=FaultKind.REFUSE)
_BAD_REQUEST = Fault(kind=FaultKind.REJECT, status=400)
_UNUSABLE = frozenset({FaultKind.MALFORMED_OUTPUT, FaultKind.CUT})


def nonce_of(body: JsonObject) -> str | None:
    """Return the nonce of the job that a call is about."""
    found = _NONCE.search(orjson.dumps(body.get("messages", [])))
    return found.group().decode() if found else None


def expected_texts(job: PlannedJob) -> set[str]:
    """Every text that the model adds to the job's story, whatever crashes on the way."""
    return {
        _text(job.nonce, iteration, number) for iteration in job.iterations for number in (1, 2)
    }


def _text(nonce: str, iteration: str, number: int) -> str:
    return (
        f"Given {nonce} is looked at for {iteration}, when part {number} of it is left out, "
        "then a message beside it names what is missing and how to mend it"
    )


class ChaosModel:
    """Paces every reply as planned for its job, and spoils the next ones when it is asked to."""

    def __init__(self, jobs: Iterable[PlannedJob]) -> None:
        self._jobs = {job.nonce: job for job in jobs}
        self._pending: deque[Fault] = deque()
        self._spoilt: set[str] = set()
        self._pardoned: set[str] = set()
        self.played: Counter[str] = Counter()
        self.stub = ModelStub(writer=self._write, plan=self._plan)

    def inject(self, fault: Fault, times: int) -> None:
        """Let so many of the next calls go wrong."""
        self._pending.extend([fault] * times)

    def pardon(self, nonce: str) -> None:
        """Refuse to work on a job no longer."""
        self._pardoned.add(nonce)

    @property
    def waiting(self) -> int:
        """How many injected faults no call has met yet."""
        return len(self._pending)

    def forget(self) -> None:
        """Let no further call go wrong."""
        self._pending.clear()

    def _plan(self, body: JsonObject) -> Fault | None:
        nonce = nonce_of(body)
        job = self._jobs.get(nonce or "")
        if job is None or nonce is None:
            return None
        if job.fate is Fate.REFUSED and nonce not in self._pardoned and _is_draft(body):
            # A refusal is an answer, paid and kept; what is to be mended must not be one.
            return _BAD_REQUEST if job.is_redriven else _REFUSAL
        fault = self._next_for(nonce)
        if fault is not None:
            self.played[fault.kind] += 1
            return fault
        pause = job.seconds / max(1, job.calls) / _FRAMES
        return Fault(kind=FaultKind.DRIP, delay=pause)

    def _next_for(self, nonce: str) -> Fault | None:
        if not self._pending:
            return None
        if self._pending[0].kind in _UNUSABLE:
            if nonce in self._spoilt:
                return None
            self._spoilt.add(nonce)
        return self._pending.popleft()

    def _write(self, body: JsonObject) -> str:
        nonce = nonce_of(body)
        reply = orjson.loads(write_reply(body))
        if nonce is not None and "patches" in reply:
            reply["patches"] = _patches(nonce, body, reply["patches"])
        return orjson.dumps(reply).decode()


def _is_draft(body: JsonObject) -> bool:
    schema = body.get("output_config", {}).get("format", {}).get("schema", {})
    return "patches" in schema.get("properties", {})


def _patches(nonce: str, body: JsonObject, patches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    prompt = body["system"][-1]["text"]
    # The reply of the stub names a path that the prompt mentions, which need not be allowed.
    allowed = _ALLOWED.findall(prompt.rpartition(_LIMITS)[2])
    path = next(each for each in allowed if each in LIST_PATHS)
    return [
        {**patch, "path": path, "text": _text(nonce, _iteration_of(prompt), number)}
        for number, patch in enumerate(patches, start=1)
    ]


def _iteration_of(prompt: str) -> str:
    found = _ITERATION.match(prompt)
    if found is None:
        raise AssertionError("a draft's prompt names its iteration in its first line")
    return found.group(1).strip().replace(" ", "-")
