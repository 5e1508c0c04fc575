"""What the served description says is what the service does, whatever it is asked.

All phases of schemathesis (examples, coverage, fuzzing, stateful) and all of its checks, against
real processes and servers.
"""

import asyncio
import os
import secrets
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.domain.api_keys import RANDOM_BYTES, Scope, format_key
from tests.contract import FAILED, KEYS, REQUESTS
from tests.fixtures.database import open_stores
from tests.fixtures.figures import show
from tests.fixtures.processes import OWNER, ROOT, Cluster, ServiceProcess
from tests.fixtures.scale import scaled
from tests.fixtures.tools import needed_module

pytestmark = pytest.mark.timeout(1800)

needed_module("schemathesis")

_LEAST = int(os.environ.get(REQUESTS) or scaled(1000, 5000))
_SEED = 1
# Each may read 600 times a minute.
_NUMBER_OF_KEYS = 40
# Failed by a deadline that no worker meets, so that there is something to redrive.
_FAILING = {"story": "As a user, I want to be late", "options": {"deadlineSeconds": 0.001}}

Statuses = Mapping[str, Counter[int]]


async def test_no_request_gets_an_answer_that_the_description_does_not_tell(
    cluster: Cluster,
) -> None:
    api = await cluster.start_api(USA_TEST_AGENTS="0")
    await cluster.start_workers(1, USA_TEST_AGENTS="0")
    keys = await _make_keys(cluster)
    async with aiohttp.ClientSession(
        cluster.address, headers={"Authorization": f"Bearer {keys[0]}"}
    ) as session:
        description = await _read(session, "/openapi.json")
        variables = {KEYS: " ".join(keys), FAILED: " ".join(await _fail_some_jobs(session))}

    statuses: Statuses = {}
    asked, seed = 0, _SEED
    while asked < _LEAST:
        await _run_schemathesis(cluster.address, variables, seed, _LEAST - asked)
        statuses = await _answered(api, description)
        asked, seed = sum(counts.total() for counts in statuses.values()), seed + 1

    show(_table(statuses, asked))
    assert not {name for name, counts in statuses.items() if 500 in counts}
    assert statuses.keys() - _NOT_DESCRIBED == set(_operations(description).values())
    assert not {
        name
        for name, counts in statuses.items()
        if name not in _NOT_DESCRIBED and not any(status < 300 for status in counts)
    }, "these never succeeded, so nothing is known of them"


_NOT_DESCRIBED = frozenset({"(no such method or path)"})


async def _make_keys(cluster: Cluster) -> list[str]:
    made = [format_key(secrets.token_bytes(RANDOM_BYTES)) for _ in range(_NUMBER_OF_KEYS)]
    async with open_stores(cluster.environment["USA_DATABASE_URL"]) as stores:
        for key in made:
            await stores.keys.insert(
                key.prefix, key.key_hash, OWNER,
                name="contract", scopes=[*Scope], tier="unlimited", valid_for=None,
            )  # fmt: skip
    return [key.text for key in made]


async def _read(session: aiohttp.ClientSession, path: str) -> dict[str, Any]:
    async with session.get(path) as response:
        assert response.status == HTTPStatus.OK, await response.text()
        document: dict[str, Any] = await response.json()
        return document


async def _fail_some_jobs(session: aiohttp.ClientSession) -> list[str]:
    failed = []
    for _ in range(3):
        async with session.post("/api/v1/jobs?wait=20", json=_FAILING) as response:
            document = await response.json()
            assert document["job"]["status"] == "failed", document
            failed.append(document["job"]["id"])
    return failed


async def _run_schemathesis(
    url: str, variables: Mapping[str, str], seed: int, requests: int
) -> None:
    # Found by trying: the phases before fuzzing make about 500 requests, an example about 20.
    examples = max(1, (requests - 500) // 20)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "--no-color",
        "--config-file", "tests/contract/schemathesis.toml",
        "run", f"{url}/openapi.json", f"--seed={seed}", f"--max-examples={examples}",
        cwd=ROOT,
        env={**os.environ, **variables, "SCHEMATHESIS_HOOKS": "tests.contract.hooks"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, output.decode()


async def _answered(api: ServiceProcess, description: dict[str, Any]) -> Statuses:
    """Every answer so far, by operation, as the service itself has counted them."""
    address = (await api.ready())["metrics"]
    async with aiohttp.ClientSession() as session, session.get(f"{address}/metrics") as response:
        families = list(text_string_to_metric_families(await response.text()))
    names = _operations(description)
    statuses: dict[str, Counter[int]] = defaultdict(Counter)
    for sample in (sample for family in families for sample in family.samples):
        if sample.name == "usa_http_request_seconds_count":
            labels = sample.labels
            name = names.get((labels["method"], labels["route"]), *_NOT_DESCRIBED)
            statuses[name][int(labels["status"])] += int(sample.value)
    return statuses


def _operations(description: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {
        (method.upper(), path): operation["operationId"]
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    }


def _table(statuses: Statuses, asked: int) -> str:
    lines = [
        f"{name:26}" + ", ".join(f"{counts[status]} x {status}" for status in sorted(counts))
        for name, counts in sorted(statuses.items())
    ]
    return "\n".join([f"{asked} requests", *lines])
