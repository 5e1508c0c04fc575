"""Array statements under group commit: one bad item never fails its neighbours."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from asyncpg import Record

from service.group_commit import CommitMany
from service.postgres.pool import BAD_ITEMS, Database

Item = TypeVar("Item")
Answer = TypeVar("Answer")

Row = Callable[[Item], Sequence[Any]]
Read = Callable[[Record], Answer]


def array_statement(
    database: Database, name: str, row: "Row[Item]", read: "Read[Answer]", *constants: Any
) -> "CommitMany[Item, Answer]":
    """Return a `commit_many` for a statement that takes one array per column, then `constants`.

    The statement must answer one row per item, in order.
    """

    async def together(items: Sequence[Item]) -> list[Answer]:
        records = await database.fetch_batch(name, [row(item) for item in items], *constants)
        return [read(record) for record in records]

    return _isolating(together)


def silent_statement(database: Database, name: str, row: "Row[Item]") -> "CommitMany[Item, None]":
    """Return a `commit_many` for a statement whose rows nobody reads."""

    async def together(items: Sequence[Item]) -> list[None]:
        await database.fetch_batch(name, [row(item) for item in items])
        return [None] * len(items)

    return _isolating(together)


def _isolating(
    together: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
) -> "CommitMany[Item, Answer]":
    """Halve what a data error refuses until each bad item is alone with its error."""

    async def commit_many(items: Sequence[Item]) -> Sequence[Answer | BaseException]:
        try:
            return await together(items)
        except BAD_ITEMS as error:
            if len(items) == 1:
                return [error]
        middle = len(items) // 2
        first, second = await commit_many(items[:middle]), await commit_many(items[middle:])
        return [*first, *second]

    return commit_many
