"""Each example is what its schema says, formats included."""

from typing import Any

import pytest

from service.api.openapi import describe
from service.api.routes import ROUTES
from tests.fixtures.tools import needed_module
from tests.unit.api.test_examples import contents

jsonschema: Any = needed_module("jsonschema_rs")

COMPONENTS = describe(ROUTES, "1.2.3")["components"]
CONTENTS = dict(contents())


@pytest.mark.parametrize("where", CONTENTS)
def test_an_example_is_what_its_schema_says(where: str) -> None:
    content = CONTENTS[where]
    validator = jsonschema.Draft202012Validator(
        {**content["schema"], "components": COMPONENTS}, validate_formats=True
    )
    assert [str(error) for error in validator.iter_errors(content["example"])] == []


def test_a_wrong_example_would_be_found() -> None:
    where = next(where for where in CONTENTS if where.startswith("get_usage 200"))
    content = CONTENTS[where]
    validator = jsonschema.Draft202012Validator(
        {**content["schema"], "components": COMPONENTS}, validate_formats=True
    )
    wrongs: list[dict[str, Any]] = [{"day": "today"}, {"requests": "many"}, {"tokenUsage": {}}]
    for wrong in wrongs:
        assert list(validator.iter_errors({**content["example"], **wrong}))
