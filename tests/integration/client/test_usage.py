"""Reading usage through the client: what it asks for."""

import pytest

from service.client.usage_client import UsageClient
from tests.integration.client.conftest import KEY
from tests.integration.client.misbehaving import MisbehavingServer, says


@pytest.mark.parametrize("whole_tenant", [False, True])
async def test_usage_is_asked_for_as_documented(
    server: MisbehavingServer, whole_tenant: bool
) -> None:
    server.plays(says(200, {"answer": 42}))

    async with UsageClient(server.address, KEY) as client:
        answers = [
            await client.usage(whole_tenant=whole_tenant),
            await client.daily_usage(7, whole_tenant=whole_tenant),
            await client.quota(),
        ]

    assert answers == [{"answer": 42}] * 3
    scope = "scope=tenant" if whole_tenant else ""
    assert [(seen.method, seen.path.rstrip("?&")) for seen in server.seen] == [
        ("GET", f"/api/v1/usage?{scope}".rstrip("?")),
        ("GET", f"/api/v1/usage/daily?days=7&{scope}".rstrip("&")),
        ("GET", "/api/v1/usage/quota"),
    ]
