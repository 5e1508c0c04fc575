"""The SQL statements, one file each, looked up by name."""

from functools import cache
from importlib.resources import files


@cache
def statement(name: str) -> str:
    """Return the text of `queries/<name>.sql`."""
    return (files("service.postgres") / "queries" / f"{name}.sql").read_text(encoding="utf-8")
