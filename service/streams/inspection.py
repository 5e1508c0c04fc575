"""What Redis says of itself, read without changing anything."""

from redis.exceptions import ResponseError

from service.domain.checkup import RedisFacts
from service.streams import keys
from service.streams.connection import Client, as_cluster, redis_errors


async def inspect_redis(client: Client) -> RedisFacts:
    """Describe the server and the job streams; raises `Unavailable`.

    Of a cluster it is the server that has the job streams.
    """
    with redis_errors():
        info = await client.info()
        missing = [name for name in (keys.JOBS, keys.AGAIN) if not await _has_group(client, name)]
    cluster = as_cluster(client)
    version, valkey = str(info["redis_version"]), info.get("valkey_version")
    return RedisFacts(
        product=f"Redis {version}" if valkey is None else f"Valkey {valkey}",
        version=version,
        # A managed server may keep both to itself.
        eviction=str(info.get("maxmemory_policy", "unknown")),
        is_append_only=bool(info.get("aof_enabled")),
        missing_groups=tuple(missing),
        shards=len(cluster.servers) if cluster else 0,
    )


async def _has_group(client: Client, stream: str) -> bool:
    try:
        groups = await client.xinfo_groups(stream)
    except ResponseError as error:
        if "no such key" not in str(error):
            raise
        return False
    return any(group["name"] == keys.GROUP.encode() for group in groups)
