"""Rates: how many requests of a token are served. A bucket for each, in this process's memory.

A bucket holds as many requests as its rate has, and fills as evenly as the rate says. The event
loop uses it; nothing is stored.
"""

from typing import Final

from appliance.auth.principal import Principal

#: Buckets that are kept. A full one is as good as none.
_MAX_BUCKETS: Final = 20_000


class Buckets:
    """A bucket for each principal that has a rate."""

    def __init__(self) -> None:
        self._buckets: dict[Principal, tuple[float, float]] = {}  # requests left, at which time

    def wait(self, principal: Principal, now: float) -> float:
        """Take one request; return 0, or the seconds until there is one (nothing is taken then).

        `now` is a clock that never goes back.
        """
        if principal.rate is None:
            return 0.0
        most, seconds = principal.rate
        left, at = self._buckets.get(principal, (float(most), now))
        left = min(float(most), left + (now - at) * most / seconds)
        if left < 1.0:
            return (1.0 - left) * seconds / most
        if len(self._buckets) >= _MAX_BUCKETS:
            self._drop_full(now)
        self._buckets[principal] = (left - 1.0, now)
        return 0.0

    def _drop_full(self, now: float) -> None:
        self._buckets = {
            principal: (left, at)
            for principal, (left, at) in self._buckets.items()
            if principal.rate
            and left + (now - at) * principal.rate.requests / principal.rate.seconds
            < principal.rate.requests
        }
