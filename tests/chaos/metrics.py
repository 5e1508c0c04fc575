"""What the processes of a cluster have counted, those included that are dead by now."""

import asyncio
from collections import Counter
from collections.abc import Mapping

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.chaos.world import Member, World

_EVERY = 1.0
_PATIENCE = aiohttp.ClientTimeout(total=0.8)

Sample = tuple[str, tuple[tuple[str, str], ...]]


class Counted:
    """The last reading of every process; `total` sums them up."""

    def __init__(self, world: World, session: aiohttp.ClientSession) -> None:
        self._world = world
        self._session = session
        self._readings: dict[int, Mapping[Sample, float]] = {}

    def total(self, name: str, **labels: str) -> int:
        """The sum of a counter over all processes and all other labels."""
        wanted = set(labels.items())
        return int(
            sum(
                value
                for reading in self._readings.values()
                for (sample, found), value in reading.items()
                if sample == name and wanted <= set(found)
            )
        )

    def by_label(self, name: str, label: str) -> Mapping[str, int]:
        """A counter's sums by one label."""
        sums: Counter[str] = Counter()
        for reading in self._readings.values():
            for (sample, found), value in reading.items():
                if sample == name:
                    sums[dict(found).get(label, "")] += int(value)
        return {key: value for key, value in sorted(sums.items()) if value}

    async def keep_reading(self) -> None:
        """Read everybody's metrics every second, until cancelled."""
        while True:
            await self.read_all()
            await asyncio.sleep(_EVERY)

    async def read_all(self) -> None:
        """Read the metrics of whoever answers."""
        await asyncio.gather(*(self._read(member) for member in self._world.members))

    async def _read(self, member: Member) -> None:
        address, pid = member.metrics_address, member.process.popen.pid
        if address is None:
            return
        try:
            async with self._session.get(f"{address}/metrics", timeout=_PATIENCE) as response:
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError):
            return
        self._readings[pid] = {
            (sample.name, tuple(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            if family.type == "counter"
            for sample in family.samples
            if sample.name.endswith("_total")
        }
