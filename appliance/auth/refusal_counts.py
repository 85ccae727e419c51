"""Refusals: how many requests were refused, to whom, and who must wait before the next try.

A wrong token is refused; after some refusals in a row an address is refused slowly. Whoever has a
right token is served at once, from the same address too: a network or a proxy can stand behind it.
The table of addresses, and what is logged of them, are bounded. Any thread uses it.
"""

import ipaddress
import threading
import time
from collections import Counter, OrderedDict
from typing import Any, Final

import structlog

#: Refusals that an address gets at once, and how many more in each second after that: a client that
#: was given a wrong token, and tries every two seconds, is never slowed.
_AT_ONCE: Final = 20.0
_PER_SECOND: Final = 0.5
#: Addresses that are remembered; of an IPv6 one its network of a household (/64).
_MAX_ADDRESSES: Final = 4096
#: Seconds between two reports, lines of each, and seconds for which an address that was reported
#: is not reported again.
REPORT_SECONDS: Final = 10.0
_MAX_LINES: Final = 5
_QUIET_SECONDS: Final = 60.0

_log: Any = structlog.get_logger(__name__)


class _Address:
    """What is remembered of an address."""

    __slots__ = ("at", "left", "reasons", "reported_at")

    def __init__(self, now: float, at_once: float) -> None:
        self.left, self.at = at_once, now
        self.reported_at = now - _QUIET_SECONDS
        self.reasons: Counter[str] = Counter()  # refusals that are not reported yet


class Refusals:
    """Counts refusals; `clock` never goes back.

    An address has `at_once` of them before it must wait, and `per_second` more with each second.
    """

    def __init__(
        self,
        clock: Any = time.monotonic,
        at_once: float = _AT_ONCE,
        per_second: float = _PER_SECOND,
    ) -> None:
        self._clock = clock
        self._at_once, self._per_second = at_once, per_second
        self._lock = threading.Lock()
        self._addresses: OrderedDict[str, _Address] = OrderedDict()
        self._forgotten: Counter[str] = Counter()  # refusals of addresses that made room
        #: reason -> refusals since this process started
        self.totals: Counter[str] = Counter()

    def note(self, address: str, reason: str) -> bool:
        """Count a refusal; return whether it is to be a slow one.

        `reason` is one of a few words of ours.
        """
        with self._lock:
            return self._note(address, reason)

    def left(self, address: str) -> int:
        """Return how many more refusals this address has before it must wait."""
        with self._lock:
            return int(self._left(address))

    def wait(self, address: str) -> float:
        """Return the seconds that this address must wait; 0: it has a try left."""
        with self._lock:
            return max(0.0, 1.0 - self._left(address)) / self._per_second

    def _left(self, address: str) -> float:
        known = self._addresses.get(_network(address))
        if known is None:
            return self._at_once
        passed: float = self._clock() - known.at
        return min(self._at_once, known.left + passed * self._per_second)

    def _note(self, address: str, reason: str) -> bool:
        self.totals[reason] += 1
        now, key = self._clock(), _network(address)
        known = self._addresses.get(key)
        if known is None:
            known = self._addresses[key] = _Address(now, self._at_once)
            if len(self._addresses) > _MAX_ADDRESSES:
                _, oldest = self._addresses.popitem(last=False)
                self._forgotten += oldest.reasons
        else:
            self._addresses.move_to_end(key)
        known.reasons[reason] += 1
        known.left = min(self._at_once, known.left + (now - known.at) * self._per_second)
        known.at = now
        if known.left < 1.0:
            self.totals["slowed"] += 1
            return True
        known.left -= 1.0
        return False

    def report(self) -> None:
        """Log who was refused since the last report, as far as that fits a few lines."""
        with self._lock:
            self._report()

    def _report(self) -> None:
        now = self._clock()
        due = [
            (sum(each.reasons.values()), address)
            for address, each in self._addresses.items()
            if each.reasons and now - each.reported_at >= _QUIET_SECONDS
        ]
        due.sort(reverse=True)
        others, count = self._forgotten, 0
        for place, (refused, address) in enumerate(due):
            each = self._addresses[address]
            if place < _MAX_LINES:
                _log.warning(
                    "requests refused", address=address, count=refused, reasons=dict(each.reasons)
                )
            else:
                others += each.reasons
                count += 1
            each.reasons = Counter()
            each.reported_at = now
        if others:
            _log.warning("more requests refused", addresses=count, reasons=dict(others))
        self._forgotten = Counter()


def _network(address: str) -> str:
    """Return the address that is counted: one client has every address of its IPv6 network."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address
