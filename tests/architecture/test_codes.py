"""The codes that programs read are those that the description lists."""

import ast
import re
from collections.abc import Iterator

from service.api.statuses import CODES, JOB_CODES, title_of, usual_code
from tests.architecture.sources import SERVICE, modules, texts_by_module

FAILURES = {"JobFailure", "ModelFailure", "Failed", "Fail"}
LISTS = "service/api/statuses.py"


def codes_of_failures() -> Iterator[str]:
    """Yield the code of every failure that the source names."""
    for tree in modules().values():
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str(code)), *_]) if (
                    name in FAILURES
                ):
                    yield code
    for query in SERVICE.glob("postgres/queries/*.sql"):
        yield from re.findall(r'"code": "(\w+)"', query.read_text())


def test_failed_jobs_have_the_codes_that_are_listed() -> None:
    assert set(codes_of_failures()) == set(JOB_CODES)


def test_every_code_that_is_listed_is_one_that_can_be() -> None:
    written = {text for path, texts in texts_by_module().items() if path != LISTS for text in texts}
    for status, codes in CODES.items():
        assert [code for code in codes if code not in {*written, usual_code(status)}] == []


def test_a_status_is_called_the_same_by_every_version_of_python() -> None:
    assert [title_of(413), title_of(422)] == ["Content Too Large", "Unprocessable Content"]
    assert [usual_code(400), usual_code(413)] == ["VALIDATION_ERROR", "CONTENT_TOO_LARGE"]
