"""The breaker of an endpoint: whether it is tried at full width, one at a time, or not now. Pure.

While an endpoint doesn't answer, nothing is gained by trying every message on it: they stay where
they are, behind the cursor. One message at a time is tried, at growing distances; the first one
that is taken closes the breaker.
"""

from collections.abc import Callable
from typing import Final

from appliance.model import retry_schedule

#: Failures one after another that open it.
THRESHOLD: Final = 5
#: The step of the schedule beyond which the distances between two tries grow no more: an endpoint
#: that is well again is found within about an hour.
_LAST_STEP: Final = 6
#: Answers that say of themselves that the endpoint wants nothing at all for a while.
_HOLDING: Final = frozenset({429, 503})


class Breaker:
    """`failures` in a row; `broken_at` and `retry_at` are Unix times, None while it is closed."""

    def __init__(
        self,
        random: Callable[[], float],
        failures: int = 0,
        broken_at: float | None = None,
        retry_at: float | None = None,
        trouble: str = "",
    ) -> None:
        self._random = random
        self.failures = failures
        self.broken_at = broken_at
        self.retry_at = retry_at
        self.trouble = trouble

    @property
    def is_open(self) -> bool:
        """Whether messages wait for the endpoint to be well again."""
        return self.broken_at is not None

    def succeeds(self) -> bool:
        """Note a good attempt; return whether that closed the breaker."""
        was_open = self.is_open
        self.close()
        return was_open

    def close(self) -> None:
        """Try the endpoint at full width."""
        self.failures, self.broken_at, self.retry_at, self.trouble = 0, None, None, ""

    def fails(
        self, trouble: str, now: float, status: int | None, wish: float | None, *, is_probe: bool
    ) -> bool:
        """Note a failed attempt; return whether that opened the breaker.

        An attempt that was under way when the breaker opened, and is no probe, says nothing new.
        """
        if self.is_open and not is_probe:
            return False
        self.failures += 1
        self.trouble = trouble
        is_held = status in _HOLDING and wish is not None
        if not self.is_open and self.failures < THRESHOLD and not is_held:
            return False
        was_open = self.is_open
        if not was_open:
            self.broken_at = now
        step = min(max(1, self.failures - THRESHOLD + 1), _LAST_STEP)
        if is_held and not was_open:
            # A quick receiver that asks for two seconds is tried in two.
            self.retry_at = now + max(1.0, wish or 0.0) * (1 + 0.2 * self._random())
        else:
            self.retry_at = retry_schedule.next_attempt(
                step, now, now, float("inf"), wish, self._random
            )
        return not was_open
