"""Each SQL file is one statement that says what it does, what it takes, and is used."""

import re
from pathlib import Path

import pytest

from tests.architecture.sources import SERVICE, texts_by_module

QUERIES = sorted((SERVICE / "postgres" / "queries").glob("*.sql"))
MIGRATIONS = sorted((SERVICE / "postgres" / "migrations").glob("*.sql"))

by_name = pytest.mark.parametrize("query", QUERIES, ids=lambda path: path.stem)


def split(query: Path) -> tuple[list[str], str]:
    """Return the comment lines at the head of a file, and its statement."""
    lines = query.read_text().splitlines()
    head = [line.removeprefix("-- ") for line in lines if line.startswith("--")]
    return head, "\n".join(line for line in lines if not line.startswith("--"))


@by_name
def test_a_statement_begins_with_a_sentence_about_what_it_does(query: Path) -> None:
    head, _ = split(query)
    assert query.read_text().startswith("-- ")
    assert re.match(r"[A-Z][^$]+[.:;]$", head[0])


@by_name
def test_a_statement_explains_exactly_the_parameters_it_takes(query: Path) -> None:
    head, body = split(query)
    explained = re.findall(r"\$(\d+)", "\n".join(head))
    taken = set(re.findall(r"\$(\d+)", body))
    assert set(explained) == taken == {str(n + 1) for n in range(len(taken))}


@by_name
def test_a_file_is_one_statement(query: Path) -> None:
    _, body = split(query)
    assert ";" not in re.sub(r"'[^']*'|--.*", "", body)


def test_every_statement_is_used() -> None:
    assert len(QUERIES) > 20
    assert {path.stem for path in QUERIES} - set().union(*texts_by_module().values()) == set()


def test_no_query_text_hides_in_the_code() -> None:
    verbs = re.compile(r"\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM)\s+\S+\s+\S", re.DOTALL)
    hiding = {path for path, texts in texts_by_module().items() if any(map(verbs.match, texts))}
    # Both speak to Postgres before there is a schema.
    assert hiding == {"service/postgres/schema.py", "service/embedded/postgres.py"}


def test_migrations_are_numbered_without_a_gap() -> None:
    numbers = [int(path.name.partition("_")[0]) for path in MIGRATIONS]
    assert numbers == list(range(1, len(numbers) + 1)) != []
