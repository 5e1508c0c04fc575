"""Everything that is in Redis is lost: jobs are delayed, never lost."""

import redis

from tests.faults.test_shutdown import submit_sleepers
from tests.fixtures.processes import Cluster
from tests.fixtures.waiting import eventually
from tests.fixtures.watching import CurlWatch

RUNNING, QUEUED = 20, 20


async def test_running_and_queued_jobs_survive_a_flushall(
    cluster: Cluster, redis_server_url: str
) -> None:
    await cluster.start_api()
    await cluster.start_workers(2, USA_CONCURRENCY=str(RUNNING // 2), USA_USER_IN_STREAM="0")
    jobs = await submit_sleepers(cluster, RUNNING + QUEUED, steps=3, stepSeconds=0.8)
    watch = CurlWatch.start(cluster, jobs[0])

    async def is_full() -> bool:
        found = await cluster.statuses()
        return found == {"processing": RUNNING, "queued": QUEUED}

    await eventually(is_full, within=20.0, what="half of the jobs run")
    with redis.Redis.from_url(redis_server_url) as client:
        client.flushall()

    assert await cluster.all_ended(RUNNING + QUEUED, within=60.0) == {"completed": RUNNING + QUEUED}
    assert await cluster.count("SELECT count(*) FROM jobs WHERE error_count > 0") == 0
    assert await cluster.calls_paid_twice() == []
    events = await watch.ended()
    told = [event.id for event in events if event.id is not None]
    assert told == sorted(set(told))
    assert [event.type for event in events].count("complete") == 1
