"""Array statements under group commit: one bad item never fails its neighbours."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from asyncpg import Record

from service.postgres.pool import BAD_ITEMS, Database

Item = TypeVar("Item")
Answer = TypeVar("Answer")

Row = Callable[[Item], Sequence[Any]]
Read = Callable[[Record], Answer]


def array_statement(
    database: Database, name: str, row: "Row[Item]", read: "Read[Answer]"
) -> Callable[[Sequence[Item]], Awaitable[list[Answer | BaseException]]]:
    """Return a `commit_many` for a statement that takes one array per column.

    The statement must answer one row per item, in order. Data errors rerun items one by one.
    """

    async def commit_many(items: Sequence[Item]) -> list[Answer | BaseException]:
        rows = [row(item) for item in items]
        try:
            return [read(record) for record in await database.fetch_batch(name, rows)]
        except BAD_ITEMS as error:
            if len(rows) == 1:
                return [error]
        return [await alone(one) for one in rows]

    async def alone(one: Sequence[Any]) -> Answer | BaseException:
        try:
            return read((await database.fetch_batch(name, [one]))[0])
        except BAD_ITEMS as error:
            return error

    return commit_many


def silent_statement(
    database: Database, name: str, row: "Row[Item]"
) -> Callable[[Sequence[Item]], Awaitable[list[BaseException | None]]]:
    """Return a `commit_many` for a statement whose rows nobody reads."""

    async def commit_many(items: Sequence[Item]) -> list[BaseException | None]:
        await database.fetch_batch(name, [row(item) for item in items])
        return [None] * len(items)

    return commit_many
