"""What Postgres says of itself."""

from service.postgres.pool import Database


async def server_version(database: Database) -> str:
    """Return the server's version; raises `Unavailable`."""
    async with database.connection() as connection:
        version = connection.get_server_version()
    return f"{version.major}.{version.minor}"
