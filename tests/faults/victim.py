"""`python -m tests.faults.victim worker`: the ordinary command line, hurt at its failpoints.

Everything that the service tells or asks its servers passes one of the two drivers, by the name
of its statement, script or command; so these are instrumented, and the service knows nothing.
"""

import asyncio
import os
import signal
import sys
from asyncio import AbstractEventLoop, StreamReaderProtocol, Task, Transport
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

import asyncpg
import redis.asyncio
from redis.asyncio.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError

from service.cli import main
from service.postgres.statements import statement
from service.streams import scripts
from tests.fixtures.failpoints import LEDGER, PLAN, REDIS_COMMANDS, Action, Failpoint, Place, Plan

Call = Callable[[], Awaitable[Any]]

STATEMENTS: Final = {
    statement(path.name.removesuffix(".sql")): path.name.removesuffix(".sql")
    for path in (files("service.postgres") / "queries").iterdir()
    if path.name.endswith(".sql")
}
SCRIPTS: Final = {
    text: script.name
    for script in vars(scripts).values()
    if isinstance(script, scripts.Script)
    for text in (script.sha, script.source)
}
EDGES: Final = frozenset(
    {f"postgres.{name}" for name in STATEMENTS.values()}
    | {f"redis.{name}" for name in (*SCRIPTS.values(), *REDIS_COMMANDS)}
)

# Asked again and again: an answer that brings nothing is no pass worth counting.
POLLS: Final[Mapping[str, Callable[[Any], object]]] = {
    "redis.xreadgroup": bool,
    "redis.xautoclaim": lambda reply: reply[1],
    "postgres.take_relay_batch": lambda rows: any(row["id"] for row in rows),
    "postgres.fail_overdue": bool,
    "postgres.list_owing_events": bool,
    "postgres.list_expired_leases": bool,
    "postgres.list_suspect_entries": bool,
    "postgres.list_calls_left_open": bool,
}

_SERVERS: Final = {
    "postgres": ConnectionResetError,
    "redis": RedisConnectionError,
}
# The first byte of a message by which a prepared statement is run.
_BIND = b"B"


class Connections:
    """The connections to both servers, in whichever loop, and how many requests were sent."""

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()
        self._transports: WeakKeyDictionary[Transport, tuple[str, AbstractEventLoop]] = (
            WeakKeyDictionary()
        )

    def watch(self) -> None:
        """Notice every connection that is made from now on."""
        for method in ("create_connection", "create_unix_connection"):
            self._watch(asyncio.SelectorEventLoop, method)

    def _watch(self, loop_class: Any, method: str) -> None:
        connect = getattr(loop_class, method)

        async def connecting(loop: AbstractEventLoop, *args: Any, **options: Any) -> Any:
            transport, protocol = await connect(loop, *args, **options)
            if isinstance(protocol, asyncpg.protocol.Protocol):
                self._add(transport, "postgres", loop)
            elif isinstance(protocol, StreamReaderProtocol):
                self._add(transport, "redis", loop)
            return transport, protocol

        setattr(loop_class, method, connecting)

    def _add(self, transport: Any, server: str, loop: AbstractEventLoop) -> None:
        self._transports[transport] = server, loop
        write = transport.write

        def writing(data: Any) -> None:
            write(data)
            if server == "redis" or bytes(data[:1]) == _BIND:
                self.sent[server] += 1

        transport.write = writing

    def cut(self, server: str) -> None:
        """Abort every connection to a server."""
        for transport, (name, loop) in list(self._transports.items()):
            if name == server and not loop.is_closed():
                loop.call_soon_threadsafe(transport.abort)


class Victim:
    """Meets its failpoints, each written down before it acts."""

    def __init__(self, plan: Plan, ledger: Path, connections: Connections) -> None:
        self._plan = plan
        self._ledger = ledger
        self._connections = connections

    async def passes(self, edges: Iterable[str], call: Call) -> Any:
        """Make a call, and what is to happen before, during and after it."""
        watched = [edge for edge in edges if edge in self._plan.edges]
        if not watched:
            return await call()
        for edge in watched:
            await self._strike(edge, Place.BEFORE)
        answer = await self._under_way(watched, call)
        for edge in watched:
            if POLLS.get(edge, _always)(answer):
                await self._strike(edge, Place.AFTER)
        return answer

    async def _under_way(self, watched: Iterable[str], call: Call) -> Any:
        due = [each for edge in watched for each in self._plan.due(edge, Place.DURING)]
        if not due:
            return await call()
        server = due[0].edge.partition(".")[0]
        sent = self._connections.sent[server]
        task: Task[Any] = asyncio.ensure_future(call())
        while self._connections.sent[server] == sent and not task.done():  # noqa: ASYNC110 - ends at once
            await asyncio.sleep(0)
        for each in due:
            await self._act(each)
        return await task

    async def _strike(self, edge: str, place: Place) -> None:
        for each in self._plan.due(edge, place):
            await self._act(each)

    async def _act(self, failpoint: Failpoint) -> None:
        with self._ledger.open("a") as ledger:
            ledger.write(f"{failpoint}\n")
        server = failpoint.edge.partition(".")[0]
        match Action(failpoint.action):
            case Action.KILL:
                os.kill(os.getpid(), signal.SIGKILL)
            case Action.STOP:
                os.kill(os.getpid(), signal.SIGSTOP)
            case Action.RAISE | Action.LOSE:
                raise _SERVERS[server](f"the failpoint {failpoint}")
            case Action.DELAY:
                await asyncio.sleep(failpoint.seconds)
            case Action.CUT:
                self._connections.cut(server)

    def instrument_postgres(self) -> None:
        """Let every named statement pass."""
        for method in ("fetch", "fetchrow"):
            self._instrument_statements(method)

    def _instrument_statements(self, method: str) -> None:
        run = getattr(asyncpg.Connection, method)

        async def running(connection: Any, query: str, *args: Any, **options: Any) -> Any:
            name = STATEMENTS.get(query)
            edges = [f"postgres.{name}"] if name else []
            return await self.passes(edges, lambda: run(connection, query, *args, **options))

        setattr(asyncpg.Connection, method, running)

    def instrument_redis(self) -> None:
        """Let every command and script pass, those of a pipeline together."""
        client: Any = redis.asyncio.Redis
        pipeline: Any = Pipeline
        execute, execute_all = client.execute_command, pipeline.execute

        async def executing(connection: Any, *args: Any, **options: Any) -> Any:
            return await self.passes([_edge(args)], lambda: execute(connection, *args, **options))

        async def executing_all(stacked: Any, *args: Any, **options: Any) -> Any:
            edges = sorted({_edge(command) for command, _ in stacked.command_stack})
            return await self.passes(edges, lambda: execute_all(stacked, *args, **options))

        client.execute_command, pipeline.execute = executing, executing_all


def _edge(command: "tuple[Any, ...]") -> str:
    name = str(command[0])
    if name in {"EVAL", "EVALSHA"}:
        name = SCRIPTS.get(command[1], name)
    return f"redis.{name.lower().replace(' ', '_')}"


def _always(_: object) -> bool:
    return True


def run_victim() -> None:
    """Run the command line as a victim of the plan in the environment."""
    plan = Plan.from_json(os.environ[PLAN])
    if unknown := plan.edges - EDGES:
        sys.exit(f"nothing passes at {sorted(unknown)}")
    # Its transports are not asyncio's; without it the service takes asyncio's own loop.
    sys.modules["uvloop"] = None  # type: ignore[assignment]
    connections = Connections()
    connections.watch()
    victim = Victim(plan, Path(os.environ[LEDGER]), connections)
    victim.instrument_postgres()
    victim.instrument_redis()
    main()


if __name__ == "__main__":
    run_victim()
