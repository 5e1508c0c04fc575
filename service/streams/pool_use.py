"""How many connections a client of Redis has."""

from redis.asyncio import Redis

from service.streams.connection import Client, as_cluster
from service.telemetry.pools import PoolUse


def pool_use(client: Client) -> PoolUse:
    """Count the client's connections, in a cluster those of the server that is used most."""
    cluster = as_cluster(client)
    clients = [client] if cluster is None else cluster.clients
    return max(map(_use, clients), default=PoolUse(used=0, idle=0, most=0))


def _use(client: Redis) -> PoolUse:
    pool = client.connection_pool
    (idle, _), (used, _) = pool.get_connection_count()
    return PoolUse(used=used, idle=idle, most=pool.max_connections)
