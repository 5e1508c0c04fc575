"""What the caller has used, and what remains of the limits; takes the scope `usage:read`."""

from yarl import URL

from service.client.api_client import ApiClient
from service.domain.job import JsonObject


class UsageClient(ApiClient):
    """Also reads usage; `whole_tenant` asks for the tenant's sum and takes `jobs:tenant`."""

    async def usage(self, *, whole_tenant: bool = False) -> JsonObject:
        """Read what was used today; `{day, requests, tokenUsage, costUsd, ...}`."""
        return await self._json("GET", self._usage() % _scope(whole_tenant))

    async def daily_usage(self, days: int, *, whole_tenant: bool = False) -> JsonObject:
        """Read what was used on each of the last days, newest first; `{days}`."""
        query = {"days": str(days), **_scope(whole_tenant)}
        return await self._json("GET", self._usage("daily") % query)

    async def quota(self) -> JsonObject:
        """Read one's limits and what remains of them; null means no limit."""
        return await self._json("GET", self._usage("quota"))

    def _usage(self, *path: str) -> URL:
        return self._base.joinpath("api", "v1", "usage", *path)


def _scope(whole_tenant: bool) -> dict[str, str]:
    return {"scope": "tenant"} if whole_tenant else {}
