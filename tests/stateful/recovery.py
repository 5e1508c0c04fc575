"""Once nothing goes wrong any more, every job ends, is told, and leaves nothing behind."""

from service.domain.outcome import Succeeded
from tests.stateful.invariants import Step
from tests.stateful.observation import Entry
from tests.stateful.world import World

_MOST_ROUNDS = 40
_ROUND = 20


async def recover(world: World) -> None:
    """Let a new worker and maintenance go on, without those that were there before."""
    world.workers = [world.hire()]
    for _ in range(_MOST_ROUNDS):
        await world.act(world.pass_time(_ROUND))
        await world.act(world.reconciler.run_once())
        await world.act(world.pruner.run_once())
        await world.act(world.relay.run_once())
        await world.act(_work(world), step=Step(moves_entries=True))
        if _is_over(world):
            break
    _nothing_is_left(world)
    await world.act(world.pruner.run_once())
    assert await world.consumers() == 0


async def _work(world: World) -> None:
    (worker,) = world.workers
    for how in ("silent", "new") * 4:
        await worker.read(how, count=10)
        for run in await worker.claim():
            await worker.end(run, Succeeded({"ok": True}))
            await world.quiet()


def _is_over(world: World) -> bool:
    rows = world.model.rows.values()
    have_ended = all(row.status.is_terminal and not row.event_pending for row in rows)
    calls = any(call.ending is None for call in world.model.books.calls.values())
    return have_ended and not calls and not _left_behind(world)


def _left_behind(world: World) -> set[Entry]:
    return world.seen.entries.keys() | world.seen.holders.keys()


def _nothing_is_left(world: World) -> None:
    rows = world.model.rows
    assert {id_: row.status for id_, row in rows.items() if not row.status.is_terminal} == {}
    assert {id_ for id_, row in rows.items() if row.event_pending} == set()
    assert _left_behind(world) == set()
    assert [call for call in world.model.books.calls.values() if call.ending is None] == []
    ends = {(id_, row.final_event_id) for id_, row in rows.items()}
    untold = {end for end in ends if not world.seen.ends_with(*end)}
    assert untold <= world.untold
