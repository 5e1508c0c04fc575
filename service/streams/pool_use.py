"""How many connections a client of Redis has."""

from service.streams.connection import Client
from service.telemetry.pools import PoolUse


def pool_use(client: Client) -> PoolUse:
    """Count the client's connections; nothing is asked of the server."""
    pool = client.connection_pool
    (idle, _), (used, _) = pool.get_connection_count()
    return PoolUse(used=used, idle=idle, most=pool.max_connections)
