"""One run: the plan is carried out, the cluster comes to rest, and the ledgers are judged."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, time

import aiohttp

from service.streams import keys
from tests.chaos.checks import Verdict, gather_evidence, judge, open_files_of
from tests.chaos.clients import Clients
from tests.chaos.faults.catalogue import KINDS
from tests.chaos.faults.injury import Injury
from tests.chaos.metrics import Counted
from tests.chaos.plan import Plan, PlannedFault, PlannedJob
from tests.chaos.recovery import History, read_history
from tests.chaos.timeline import timeline_of
from tests.chaos.watchers import Watcher
from tests.chaos.world import World, running_world

REST_WITHIN = 60.0
_LONGEST_REST = 180.0
_LAST_WATCHERS = 60.0
_TELL_EVERY = 10.0


@dataclass
class Run:
    """A run in progress, and afterwards what it found."""

    plan: Plan
    say: Callable[[str], None]
    injuries: list[Injury] = field(default_factory=list)
    watchers: list[Watcher] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    history: History = field(default_factory=dict)
    timelines: dict[str, list[str]] = field(default_factory=dict)
    model_calls: int = 0
    seconds: float = 0.0
    rest_seconds: float = 0.0
    counted: Counted | None = None
    clients: Clients | None = None

    async def carry_out(self, folder: Path) -> None:
        """Do everything, from starting the servers to judging the ledgers."""
        started = monotonic()
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            running_world(self.plan, folder, self.say) as world,
            aiohttp.ClientSession(connector=connector) as session,
        ):
            clients = self.clients = Clients(world, session)
            counted = self.counted = Counted(world, session)
            files = {api.name: open_files_of(api.process.popen.pid) for api in world.apis}
            helpers = [
                asyncio.create_task(counted.keep_reading()),
                asyncio.create_task(self._tell(world)),
            ]
            await self._play(world, clients, session)
            await counted.read_all()
            for helper in helpers:
                helper.cancel()
            await asyncio.wait(helpers)
            transcripts = [watcher.transcript for watcher in self.watchers]
            found = await gather_evidence(world, clients, transcripts, files)
            self.history = await read_history(world)
            self.verdicts = [*await judge(found), self._rested()]
            violated = {nonce for each in self.verdicts for nonce, _ in each.violations}
            self.timelines = {
                nonce: timeline_of(found, nonce, self.injuries)
                for nonce in violated & world.job_ids.keys()
            }
            self.model_calls = len(world.model.stub.calls)
        self.seconds = monotonic() - started

    async def _play(self, world: World, clients: Clients, session: aiohttp.ClientSession) -> None:
        begun = monotonic()
        lives = [
            asyncio.create_task(self._live(begun, world, clients, session, job))
            for job in self.plan.jobs
        ]
        await self._hurt(begun, world, clients)
        await self._come_to_rest(world)
        ended, hanging = await asyncio.wait(lives, timeout=_LAST_WATCHERS)
        for life in hanging:
            life.cancel()
        for life in ended:
            life.result()

    async def _hurt(self, begun: float, world: World, clients: Clients) -> None:
        for planned in self.plan.faults:
            await _until(begun + planned.at)
            injury = self._injury(planned, world, clients)
            self.injuries.append(injury)
            await KINDS[planned.kind].inject(injury)
            injury.until = time()
        await _until(begun + self.plan.seconds)

    def _injury(self, planned: PlannedFault, world: World, clients: Clients) -> Injury:
        dice = random.Random(planned.dice)  # noqa: S311 - reproducible, no secret
        return Injury(planned.kind, world, clients, self.watchers, dice)

    async def _live(
        self,
        begun: float,
        world: World,
        clients: Clients,
        session: aiohttp.ClientSession,
        job: PlannedJob,
    ) -> None:
        """Everything that one job's clients do."""
        await _until(begun + job.at)
        job_id = await clients.submit(job)
        watchers = [
            Watcher(world, session, job, habit, job.number + place)
            for place, habit in enumerate(job.habits)
        ]
        self.watchers += watchers
        async with asyncio.TaskGroup() as group:
            for watcher in watchers:
                group.create_task(watcher.watch(job_id))
            if job.is_redriven:
                group.create_task(clients.redrive_once_failed(job))
            if job.cancel_after is not None:
                await asyncio.sleep(job.cancel_after)
                await clients.cancel(job)

    async def _come_to_rest(self, world: World) -> None:
        """Wait until every job has ended and every entry and event debt is gone."""
        since = monotonic()
        while monotonic() - since < _LONGEST_REST and not await self._is_at_rest(world):  # noqa: ASYNC110 - nothing signals it
            await asyncio.sleep(0.2)
        self.rest_seconds = monotonic() - since

    async def _is_at_rest(self, world: World) -> bool:
        unended = await world.number(
            "SELECT count(*) FROM jobs WHERE event_pending OR status IN ('queued', 'processing')"
        )
        open_calls = await world.number("SELECT count(*) FROM usage_records WHERE ending IS NULL")
        left = sum([await world.redis.xlen(stream) for stream in (keys.JOBS, keys.AGAIN)])
        return not (unended or open_calls or left)

    def _rested(self) -> Verdict:
        verdict = Verdict("I9", f"all is quiet within {REST_WITHIN:g} s of the last fault")
        took = self.rest_seconds
        verdict.expect(took <= REST_WITHIN, "cluster", f"it took {took:.0f} s")
        return verdict

    async def _tell(self, world: World) -> None:
        begun = monotonic()
        while True:
            await asyncio.sleep(_TELL_EVERY)
            rows = await world.rows("SELECT status, count(*) AS n FROM jobs GROUP BY 1 ORDER BY 1")
            jobs = ", ".join(f"{row['n']} {row['status']}" for row in rows)
            last = self.injuries[-1].kind if self.injuries else "none yet"
            live = sum(watcher.is_live for watcher in self.watchers)
            self.say(
                f"{monotonic() - begun:4.0f} of {self.plan.seconds:.0f} s · {jobs} · {live} watch"
                f" · fault {len(self.injuries)} of {len(self.plan.faults)}: {last}"
            )


async def _until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - monotonic()))
