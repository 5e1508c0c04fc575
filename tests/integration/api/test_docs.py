"""The page about the API is served to everybody, and its commands do what it says."""

import html
import re
import subprocess

from service.domain.api_keys import Scope
from tests.fixtures.api import ALICE, RunningApi
from tests.fixtures.tools import needed_program
from tests.fixtures.waiting import eventually
from tests.integration.api.test_usage import a_key

BASH = needed_program("bash")
needed_program("curl")
_EXAMPLE = "019abf52-6d1c-7a35-8a42-1f5b8f0c9d27"


async def page_of(api: RunningApi) -> str:
    async with api.client.get("/docs") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        return await response.text()


async def test_everybody_may_read_it_and_the_entry_leads_to_it(api: RunningApi) -> None:
    async with api.client.get("/") as response:
        assert (await response.json())["links"]["docs"] == "/docs"
    assert "User story service 1.2.3" in await page_of(api)
    async with api.client.head("/docs") as response:
        assert (response.status, await response.read()) == (200, b"")


async def test_every_command_on_it_is_answered_as_described(api: RunningApi) -> None:
    key = await a_key(api, ALICE, "unlimited", *Scope)
    job = await api.submit(key)
    await api.complete(job, {"ok": True})
    page = await page_of(api)
    commands = [
        html.unescape(found)
        for found in re.findall(r"<h4>Command</h4><pre[^>]*><code>(.*?)</code>", page, re.DOTALL)
    ]
    async with api.client.get("/openapi.json") as response:
        description = await response.json()
    count = sum(len(methods) for methods in description["paths"].values())
    assert len(commands) == count > 20

    statuses = {command: await _status(api, key, command, str(job)) for command in commands}

    # The example of a job has ended here: it can be neither cancelled nor redriven.
    refused = {command.split('"')[1]: s for command, s in statuses.items() if s >= 300}
    path = f"$USA_API_URL/api/v1/jobs/{_EXAMPLE}"
    assert refused == {path: 409, f"{path}/redrive": 409}


async def _status(api: RunningApi, key: str, command: str, job: str) -> int:
    script = command.replace("curl ", "curl -o /dev/null -w '%{http_code}' --max-time 20 ", 1)
    address = str(api.client.make_url("")).rstrip("/")
    process = subprocess.Popen(
        [BASH, "-c", script.replace(_EXAMPLE, job)],
        env={"PATH": "/usr/bin:/bin", "USA_API_URL": address, "USA_API_KEY": key},
        stdout=subprocess.PIPE,
        text=True,
    )
    await eventually(lambda: process.poll() is not None, within=25, what=f"{command} ends")
    told, _ = process.communicate()
    return int(told)
