"""Whatever writes is hurt somewhere: a new statement, script or command needs its failpoint."""

import ast
import re
from collections.abc import Iterator

from tests.architecture.sources import SERVICE, modules
from tests.faults import matrix
from tests.faults.victim import EDGES
from tests.fixtures.failpoints import REDIS_COMMANDS

EXEMPT = {
    "postgres.insert_api_key": "an administrator sees whether it worked, and does it again",
    "postgres.revoke_api_key": "an administrator sees whether it worked, and does it again",
    "postgres.set_user_limits": "an administrator sees whether it worked, and does it again",
    "postgres.clear_user_limits": "an administrator sees whether it worked, and does it again",
    "postgres.pause_queue": "nothing follows it, and an operator who was not answered repeats it",
    "postgres.resume_queue": "nothing follows it, and an operator who was not answered repeats it",
    "postgres.touch_api_key": "a note for administrators that may be lost",
    "postgres.delete_ended_jobs": "nothing follows it, and the next round repeats it",
    "postgres.delete_expired_keys": "nothing follows it, and the next round repeats it",
    "postgres.delete_old_calls": "nothing follows it, and the next round repeats it",
    "postgres.delete_old_days": "nothing follows it, and the next round repeats it",
    "redis.delete_stray_entries": "nothing follows it, and the next round repeats it",
    "redis.reserve_budget": "a reservation that is lost leaves a little of a limit unused",
    "redis.observe_budget": "the next answer of the model says it again",
    "redis.settle_budget": "a correction that is lost leaves a little of a limit unused",
    "redis.take_request": "a count that is lost leaves a little of a limit unused",
    "redis.leave_budget": "a place at which nobody asks any more is cleared after ten seconds",
}
CLIENTS = {"client", "_client", "_commands", "_once", "pipeline"}
# What only reads, or runs a script, or changes nothing that anybody could lose.
READS = {
    *(
        "xrange",
        "xrevrange",
        "xpending_range",
        "xinfo_groups",
        "xinfo_consumers",
        "pubsub",
        "info",
        "xlen",
    ),
    *("pipeline", "execute", "eval", "evalsha", "script_load"),
}
# They carry to the right server what the others say.
CARRIERS = {"service/streams/cluster.py", "service/streams/sentinels.py"}
ROUTING = {"server_of", "client_of", "learn"}
_WRITES = re.compile(r"\b(INSERT INTO|UPDATE \w|DELETE FROM)", re.ASCII)


def writing_statements() -> set[str]:
    queries = (SERVICE / "postgres" / "queries").glob("*.sql")
    bodies = {
        path.stem: re.sub(r"--.*|FOR UPDATE|DO UPDATE", "", path.read_text()) for path in queries
    }
    return {f"postgres.{name}" for name, body in bodies.items() if _WRITES.search(body)}


def test_every_write_has_a_failpoint_or_a_reason() -> None:
    scripts = {f"redis.{path.stem}" for path in (SERVICE / "streams" / "lua").glob("*.lua")}
    commands = {f"redis.{name}" for name in REDIS_COMMANDS}
    writes = writing_statements() | scripts | commands
    hurt = {failpoint.edge for failpoint in matrix.ALL}

    assert len(writes) > 30
    assert writes - hurt - EXEMPT.keys() == set()
    assert EXEMPT.keys() - writes == set()
    assert EXEMPT.keys() & hurt == set()


def test_every_failpoint_is_at_something_that_passes() -> None:
    assert {failpoint.edge for failpoint in matrix.ALL} - EDGES == set()


def commands_used() -> Iterator[str]:
    """Yield every method that the streams call on a client, a pipeline or a connection."""
    for path, tree in modules().items():
        if path.startswith("service/streams/") and path not in CARRIERS:
            for node in ast.walk(tree):
                match node:
                    case ast.Call(
                        ast.Attribute(ast.Name(receiver) | ast.Attribute(attr=receiver), name)
                    ) if receiver in CLIENTS:
                        yield name


def test_no_command_writes_to_redis_unnamed() -> None:
    used = set(commands_used())
    assert used >= REDIS_COMMANDS
    assert used - READS - ROUTING - REDIS_COMMANDS == set()
