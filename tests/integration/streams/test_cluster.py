"""A client of a real cluster: commands find their server, and trouble with one is no other's."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis.crc import key_slot
from redis.exceptions import MovedError

from service.bootstrap.connections import event_feed
from service.domain.checkup import Health, judge_redis
from service.domain.errors import Unavailable
from service.domain.frames import Frame
from service.streams import keys
from service.streams.connection import Client, as_cluster, command_client, once_client, redis_errors
from service.streams.event_log import RedisEventLog
from service.streams.inspection import inspect_redis
from service.streams.nudges import RedisNudges
from service.streams.pending import RedisPending
from service.supervision import Background
from tests.fixtures.event_logs import an_event
from tests.fixtures.redis_servers import (
    HOST,
    OPERATOR,
    RedisProcess,
    RedisServers,
    as_cluster as running_cluster,
    cluster_is_made,
    free_ports,
)
from tests.fixtures.streams import JobStreams
from tests.fixtures.waiting import eventually


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One cluster for all tests here, which leave it whole."""
    with running_cluster(tmp_path_factory.mktemp("cluster")) as servers:
        asyncio.run(cluster_is_made(servers))
        yield servers
