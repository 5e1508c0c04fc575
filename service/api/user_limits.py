"""A short memory of the limits that users have instead of their tiers'."""

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

from service.api.single_flight import SingleFlight
from service.domain.job import Owner
from service.domain.tiers import Overrides
from service.ports.access import UserLimitStore
from service.supervision import Background

_KNOWN_FOR = 30.0


class UserLimits:
    """Asks the store at most once per user and half minute."""

    def __init__(
        self,
        store: UserLimitStore,
        background: Background,
        *,
        clock: Callable[[], float] = monotonic,
        most_remembered: int = 10_000,
    ) -> None:
        self._store = store
        self._clock = clock
        self._most_remembered = most_remembered
        self._known: OrderedDict[Owner, tuple[Overrides, float]] = OrderedDict()
        self._look_up = SingleFlight("find_limits", self._find, background)

    async def of(self, owner: Owner) -> Overrides:
        """Return the user's own limits; raises `Unavailable`."""
        overrides, until = self._known.get(owner, ({}, 0.0))
        return overrides if until > self._clock() else await self._look_up(owner)

    async def _find(self, owner: Owner) -> Overrides:
        overrides = await self._store.find(owner)
        self._known.pop(owner, None)
        self._known[owner] = (overrides, self._clock() + _KNOWN_FOR)
        if len(self._known) > self._most_remembered:
            self._known.popitem(last=False)
        return overrides
