"""Open WebUI makes tools of the served description that its models can work with.

Its own functions are used: lifted out of its wheel, which is downloaded for the test.
"""

import ast
import base64
import copy
import logging
import re
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import pytest

from service.domain.job import JsonObject
from tests.fixtures.deployment import STORY, Deployment
from tests.fixtures.tools import needed_wheel

pytestmark = pytest.mark.timeout(180)

_WHEEL = Path(__file__).with_name("open_webui.txt")
_SOURCE = "open_webui/utils/tools.py"
_LIFTED = {
    "OPENAPI_HTTP_METHODS", "resolve_schema", "convert_openapi_to_tool_payload", "clean_properties",
    "clean_openai_tool_schema", "execute_tool_server",
}  # fmt: skip
# What the functions use of their module, with the values of an installation that sets nothing.
_AROUND: dict[str, Any] = {
    "Any": Any,
    "aiohttp": aiohttp,
    "base64": base64,
    "copy": copy,
    "quote": quote,
    "urlencode": urlencode,
    "log": logging.getLogger("open_webui"),
    "ENABLE_TOOL_SERVERS": True,
    "AIOHTTP_CLIENT_TIMEOUT_TOOL_SERVER": 60,
    "AIOHTTP_CLIENT_SESSION_TOOL_SERVER_SSL": True,
    "AIOHTTP_CLIENT_ALLOW_REDIRECTS": False,
}
# What models of both large makers accept as names of functions and of their parameters.
_FUNCTION_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_PARAMETER_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_TYPES = {"string", "number", "integer", "boolean", "array", "object", "null"}


class OpenWebUi:
    """What Open WebUI knows of one tool server."""

    def __init__(self, functions: dict[str, Any], url: str, description: JsonObject) -> None:
        self._functions = functions
        self._server = {"openapi": description}
        self._url = url
        converted = functions["convert_openapi_to_tool_payload"](description)
        self.tools = {
            tool["name"]: functions["clean_openai_tool_schema"](tool) for tool in converted
        }

    async def call(self, key: str, name: str, **arguments: Any) -> Any:
        """Do what a model has asked for, and return what it will read."""
        assert arguments.keys() <= self.tools[name]["parameters"]["properties"].keys()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        answer, _ = await self._functions["execute_tool_server"](
            url=self._url, headers=headers, cookies={}, name=name, params=arguments,
            server_data=self._server,
        )  # fmt: skip
        return answer


@pytest.fixture(scope="session")
def lifted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The functions of Open WebUI that turn a description into tools and call them."""
    wheel = needed_wheel(_WHEEL, tmp_path_factory.mktemp("open-webui"))
    with zipfile.ZipFile(wheel) as archive:
        module = ast.parse(archive.read(_SOURCE), _SOURCE)
    wheel.unlink()
    found = [node for node in module.body if _names_of(node) & _LIFTED]
    assert set().union(*map(_names_of, found)) == _LIFTED
    future = ast.parse("from __future__ import annotations").body
    code = compile(ast.Module([*future, *found], []), _SOURCE, "exec")
    functions = dict(_AROUND)
    exec(code, functions)  # noqa: S102 - the wheel's hash is pinned
    return functions


def _names_of(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


@pytest.fixture
async def webui(lifted: dict[str, Any], deployment: Deployment) -> OpenWebUi:
    """Open WebUI with this service as a tool server."""
    url = await deployment.start_api()
    await deployment.start_worker()
    async with deployment.session.get(f"{url}/openapi.json") as response:
        return OpenWebUi(lifted, url, await response.json())


async def test_every_operation_becomes_a_tool_that_models_accept(
    webui: OpenWebUi, deployment: Deployment
) -> None:
    async with deployment.session.get(f"{deployment.url}/openapi.json") as response:
        description = await response.json()
    operations = [each for methods in description["paths"].values() for each in methods.values()]
    assert sorted(webui.tools) == sorted(each["operationId"] for each in operations)
    for operation in operations:
        tool = webui.tools[operation["operationId"]]
        parameters = tool["parameters"]
        told = {each["name"] for each in operation.get("parameters", ())}
        assert told <= parameters["properties"].keys()
        assert set(parameters["required"]) <= parameters["properties"].keys()
        assert _FUNCTION_NAME.fullmatch(tool["name"])
        assert 10 < len(tool["description"]) <= 1024
        for name, schema in parameters["properties"].items():
            assert _PARAMETER_NAME.fullmatch(name)
            assert _has_a_plain_type(schema), f"{name} of {tool['name']}: {schema}"
            assert schema["description"]


def _has_a_plain_type(schema: JsonObject) -> bool:
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    items = schema.get("items")
    if "array" in kinds and not (isinstance(items, dict) and _has_a_plain_type(items)):
        return False
    return set(kinds) <= _TYPES


async def test_a_model_that_waits_gets_the_improved_story_in_one_call(
    webui: OpenWebUi, deployment: Deployment
) -> None:
    answer = await webui.call(
        deployment.key, "create_job", story=STORY, iterations=["validation"], wait=30
    )
    assert answer["job"]["status"] == "completed"
    assert answer["job"]["result"]["markdown"]
    assert answer["job"]["result"]["iterations"][0]["applied"]


async def test_a_model_that_fills_in_everything_it_is_offered_succeeds_as_well(
    webui: OpenWebUi, deployment: Deployment
) -> None:
    answer = await webui.call(
        deployment.key,
        "create_job",
        story=STORY,
        mode="workflow",
        agent="user-story",
        options={"productType": "api", "quality": "fast", "verify": False},
        wait=30,
        **{"Idempotency-Key": "one"},
    )
    assert answer["job"]["status"] == "completed"
    assert len(answer["job"]["iterations"]) > 5


async def test_jobs_are_found_waited_for_watched_and_cancelled(
    webui: OpenWebUi, deployment: Deployment
) -> None:
    key = deployment.key
    accepted = await webui.call(key, "create_job", story=STORY, iterations=["validation"], wait=0)
    job_id = accepted["job"]["id"]

    finished = await webui.call(key, "get_job", id=job_id, wait=30)
    # Models give "" where they mean nothing.
    listed = await webui.call(key, "list_jobs", status="completed", limit=5, cursor="")
    watched = await webui.call(key, "stream_job", id=job_id)
    refused = await webui.call(key, "cancel_job", id=job_id)
    purged = await webui.call(key, "cancel_job", id=job_id, purge="true")

    assert finished["status"] == "completed"
    assert [job["id"] for job in listed["jobs"]] == [job_id]
    assert watched.count("event: complete\n") == 1
    assert "JOB_FINISHED" in refused["error"]
    assert purged == {"id": job_id, "status": "purged"}


async def test_a_model_can_look_before_it_submits(webui: OpenWebUi, deployment: Deployment) -> None:
    key = deployment.key
    listed = await webui.call(key, "list_iterations", productType="web", category="")
    one = await webui.call(key, "get_iteration", id="validation")
    preview = await webui.call(key, "preview_workflow", productType="web", verify="false")
    assert one in listed["iterations"]
    assert preview["iterations"]


async def test_a_refusal_tells_a_model_what_to_do_better(
    webui: OpenWebUi, deployment: Deployment
) -> None:
    answer = await webui.call(deployment.key, "create_job", story=STORY, iterations=["speling"])
    assert "UNKNOWN_ITERATION" in answer["error"]
    assert "validation" in answer["error"]
