"""One typed function per Lua file; its parameters are the file's KEYS and ARGV, in order."""

import hashlib
import inspect
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, Generic, ParamSpec, TypeVar, cast

from redis.exceptions import NoScriptError

from service.streams.connection import Client

P = ParamSpec("P")
R = TypeVar("R")


class Script(Generic[P, R]):
    """A Lua script that is called like the Python function that declares it."""

    def __init__(self, declaration: Callable[P, R]) -> None:
        self.name = declaration.__name__
        self.__doc__ = declaration.__doc__
        self.source = (files("service.streams") / "lua" / f"{self.name}.lua").read_text()
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()
        self._keys, self._args = _header(self.source)
        declared = list(inspect.signature(declaration).parameters)
        if declared != [name.removesuffix("...") for name in (*self._keys, *self._args)]:
            raise TypeError(f"{self.name}.lua and its function disagree: {declared}")
        if any(name.endswith("...") for name in (*self._keys, *self._args[:-1])):
            raise TypeError(f"{self.name}.lua: only its last argument may be a list")

    def arguments(self, *_: P.args, **given: P.kwargs) -> list[Any]:
        """Return the call as EVALSHA wants it: key count, keys, arguments."""
        flat: list[Any] = []
        for name in (*self._keys, *self._args):
            value = given[name.removesuffix("...")]
            if name.endswith("..."):
                flat.extend(cast("Sequence[Any]", value))
            else:
                flat.append(value)
        return [len(self._keys), *flat]

    async def __call__(self, client: Client, *args: P.args, **given: P.kwargs) -> R:
        """Run the script, loading it first if the server has forgotten it."""
        call = self.arguments(*args, **given)
        try:
            return cast("R", await client.evalsha(self.sha, *call))
        except NoScriptError:
            return cast("R", await client.eval(self.source, *call))


def _header(source: str) -> tuple[list[str], list[str]]:
    names: dict[str, list[str]] = {}
    for line in source.splitlines():
        label, _, rest = line.removeprefix("-- ").partition(": ")
        if line.startswith("-- ") and label in {"KEYS", "ARGV", "returns"}:
            names[label] = [] if rest.strip() == "none" else [n.strip() for n in rest.split(",")]
    missing = {"KEYS", "ARGV", "returns"} - names.keys()
    if missing:
        raise TypeError(f"a Lua header lacks {sorted(missing)}")
    return names["KEYS"], names["ARGV"]


@Script
def ack_if_owner(*, stream: str, group: str, consumer: str, entry_ids: Sequence[str]) -> int:
    """Acknowledge and delete the entries that are pending for this consumer; returns how many."""
    raise NotImplementedError


@Script
def renew_if_owner(*, stream: str, group: str, consumer: str, entry_ids: Sequence[str]) -> int:
    """Reset the idle time of this consumer's entries; returns how many were its own."""
    raise NotImplementedError


@Script
def release_if_owner(
    *, stream: str, group: str, consumer: str, idle_ms: int, entry_ids: Sequence[str]
) -> int:
    """Make this consumer's entries look long idle; returns how many were its own."""
    raise NotImplementedError


@Script
def remove_consumer_if_idle(*, stream: str, group: str, idle_ms: int, consumer: str | bytes) -> int:
    """Remove a consumer that has no pending entry, silent for so long; returns 1 if removed."""
    raise NotImplementedError


@Script
def delete_stray_entries(*, stream: str, group: str, after: str, count: int) -> tuple[int, bytes]:
    """Delete delivered entries that are nobody's; returns how many, and where to go on."""
    raise NotImplementedError


@Script
def append_events(
    *,
    stream: str,
    publish: str,
    channel: str,
    ttl_ms: int,
    attempt: int,
    first_seq: int,
    last_is_final: int,
    types_and_data: Sequence[str | bytes],
) -> list[bytes]:
    """Append and publish what is not there yet; returns the verdict and the stream's last id.

    `publish` is the command: PUBLISH, or SPUBLISH in a cluster.
    """
    raise NotImplementedError


@Script
def redrive_events(
    *, stream: str, publish: str, channel: str, ttl_ms: int, attempt: int, type: str, data: bytes
) -> list[bytes]:
    """Begin a generation and forget those before it; returns the verdict and the last id."""
    raise NotImplementedError


@Script
def seal_events(*, stream: str, last_id: str, ttl_ms: int) -> int:
    """Erase a job's events and refuse all others for a while."""
    raise NotImplementedError


@Script
def reserve_budget(  # noqa: PLR0913 - one for each of KEYS and ARGV
    *,
    bucket: str,
    queue: str,
    tickets: str,
    users: str,
    peers: str,
    ticket: str,
    user: str,
    peer: str,
    burst: float,
    requests: int,
    input: int,
    output: int,
    max_requests: str,
    max_input: str,
    max_output: str,
) -> list[Any]:
    """Take a call's cost if it is its turn; returns granted, wait in ms, peers and the limits."""
    raise NotImplementedError


@Script
def observe_budget(
    *,
    bucket: str,
    max_requests: str,
    max_input: str,
    max_output: str,
    left_requests: str,
    left_input: str,
    left_output: str,
) -> int:
    """Adapt to the upstream's own limits and to what is left of them."""
    raise NotImplementedError


@Script
def settle_budget(
    *, bucket: str, back_requests: int, back_input: int, back_output: int, pause_ms: int
) -> int:
    """Correct a reservation; returns whether all pause for longer now than before."""
    raise NotImplementedError


@Script
def leave_budget(*, queue: str, tickets: str, ticket: str) -> int:
    """Give up a place in the queue; returns whether there was one."""
    raise NotImplementedError


@Script
def take_request(*, rate: str, interval_us: int, burst_us: int) -> tuple[int, int]:
    """Count a request if there is room for it; returns whether there was, and the backlog in us."""
    raise NotImplementedError  # a declaration for `Script`, which runs take_request.lua instead
