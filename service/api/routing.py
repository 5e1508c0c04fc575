"""One row of the URL table, and the check of who may call it, and how often."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from service.api.audit import OPERATION
from service.api.auth import authorize
from service.api.limits import Limited, limit_rate
from service.domain.api_keys import Scope

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """A method and path, who answers, and the scope it takes (None: open to all).

    `operation` is its name in the OpenAPI document; None keeps it out of there. `limit` is what
    its requests count as; only callers who are known can be counted.
    """

    method: str
    path: str
    handler: Handler
    operation: str | None = None
    scope: Scope | None = None
    limit: Limited | None = None

    def add_to(self, app: web.Application) -> None:
        """Register the route; a GET answers HEAD as well."""
        handler = self.handler if self.scope is None else self._guarded(self.scope)
        resource = app.router.add_resource(self.path)
        resource.add_route(self.method, handler)
        if self.method == "GET":
            resource.add_route("HEAD", handler)

    def _guarded(self, scope: Scope) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            request[OPERATION] = self.operation or self.path
            await authorize(request, scope)
            if self.limit is not None:
                await limit_rate(request, self.limit)
            return await self.handler(request)

        return guarded
