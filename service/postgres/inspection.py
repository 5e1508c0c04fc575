"""What Postgres says of itself."""

from service.postgres.pool import Database


async def server_version(database: Database) -> str:
    """Return the server's version; raises `Unavailable`."""
    async with database.connection() as connection:
        version: str = connection.get_settings().server_version
    # "15.18 (Debian 15.18-0+deb12u1)": who built it follows.
    return version.split(maxsplit=1)[0]
