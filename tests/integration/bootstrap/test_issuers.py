"""A process takes the tokens of the issuer that its settings name."""

import sys

import pytest
from aiohttp import ClientSession

from service.bootstrap import running_all_in_one, running_api
from service.bootstrap.extras import MissingExtra
from service.settings import Settings
from tests.fixtures.deployment import Deployment
from tests.fixtures.oidc import AUDIENCE, Issuer


def trusting(deployment: Deployment, issuer: Issuer) -> Settings:
    """The deployment's settings, and an issuer."""
    given = {"oidc_issuer": issuer.address, "oidc_audience": AUDIENCE}
    return deployment.settings.model_copy(update=given)


async def test_a_token_is_as_good_as_a_key(deployment: Deployment, issuer: Issuer) -> None:
    async with running_api(trusting(deployment, issuer)) as running, ClientSession() as session:
        headers = {"Authorization": f"Bearer {issuer.token()}"}
        async with session.get(f"{running.address}/api/v1/jobs", headers=headers) as response:
            assert (response.status, await response.json()) == (
                200,
                {"jobs": [], "nextCursor": None},
            )


@pytest.mark.parametrize("run", [running_api, running_all_in_one])
@pytest.mark.parametrize("package", ["jwt", "cryptography"])
async def test_without_the_extra_it_says_what_to_install(
    deployment: Deployment,
    issuer: Issuer,
    run: object,
    package: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("service.api.jwt_bearer", "service.api.oidc"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=r"pip install 'user-story-service\[jwt\]'"):
        async with run(trusting(deployment, issuer)):  # type: ignore[operator]
            raise AssertionError("it has started")
