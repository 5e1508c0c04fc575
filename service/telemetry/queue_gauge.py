"""Gauges of what all processes share, exported by the one that has just looked."""

from collections.abc import Iterable, Mapping
from time import monotonic

from prometheus_client import Gauge, Metric


class QueueGauge(Gauge):
    """Has values only while they are fresh, so that nobody exports what another knows better."""

    _fresh_until = 0.0

    def show(self, values: Mapping[tuple[str, ...], float], *, lasting: float) -> None:
        """Export these values by their labels, and no others, for at most so many seconds."""
        self.clear()
        for labels, value in values.items():
            (self.labels(*labels) if labels else self).set(value)
        self._fresh_until = monotonic() + lasting

    def hide(self) -> None:
        """Export nothing."""
        self._fresh_until = 0.0

    def collect(self) -> Iterable[Metric]:
        """Return the values, or their description alone."""
        return super().collect() if monotonic() < self._fresh_until else self.describe()
