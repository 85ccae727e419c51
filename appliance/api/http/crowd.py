"""The connections that are open: how many there can be, and which one ends for a new one.

A new client always gets in: whoever opens connections and asks for nothing must not be able to
keep others out. Those on which nobody was authorized go first, the oldest of them before the
others, then authorized ones that are idle. Only where every connection is an authorized one with
a request under way, the new one is refused.
"""

from collections import OrderedDict
from typing import Final, Protocol

#: Connections above the limit at once that are told why they are refused; for one more, the oldest
#: of them is closed before it may have read that.
_MOST_REFUSED: Final = 64
#: Authorized connections that are looked at for an idle one when a new one comes.
_LOOKED_AT: Final = 64


class Member(Protocol):
    """A connection, or one that is being encrypted."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is asked, nothing is coming and nothing waits to be read."""

    def last_call(self) -> None:
        """End as soon as the request under way, or the next one, is answered."""

    def stop(self) -> None:
        """End as soon as the request under way is answered."""

    def check(self, now: float) -> None:
        """Look at the deadlines."""

    def abort(self) -> None:
        """End at once."""


class Crowd:
    """All open connections; there can be `most`, and a few that are being refused.

    `most_strangers` is for those on which nobody was authorized yet.
    """

    def __init__(self, most: int, most_strangers: int | None = None) -> None:
        self.most = most
        self.most_strangers = most if most_strangers is None else min(most, most_strangers)
        # Each in the order in which they came; an authorized one that was found busy comes last.
        self._strangers: OrderedDict[Member, None] = OrderedDict()
        self._clients: OrderedDict[Member, None] = OrderedDict()
        self._refused: OrderedDict[Member, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._strangers) + len(self._clients) + len(self._refused)

    def all(self) -> list[Member]:
        """Return every connection."""
        return [*self._strangers, *self._clients, *self._refused]

    def add(self, connection: Member) -> bool:
        """Count a new connection; whether there is room for it, which is made where it can be."""
        if len(self._strangers) >= self.most_strangers:
            _end_first(self._strangers)
        if len(self._strangers) + len(self._clients) < self.most or self._make_room():
            self._strangers[connection] = None
            return True
        if len(self._refused) >= _MOST_REFUSED:
            _end_first(self._refused)
        self._refused[connection] = None
        return False

    def promote(self, connection: Member) -> None:
        """Count a connection among the authorized ones."""
        if connection in self._strangers:
            del self._strangers[connection]
            self._clients[connection] = None

    def discard(self, connection: Member) -> None:
        """Count a connection no more."""
        self._strangers.pop(connection, None)
        self._clients.pop(connection, None)
        self._refused.pop(connection, None)

    def _make_room(self) -> bool:
        """End a connection for a new one; whether there was one that may be ended."""
        if self._strangers:
            _end_first(self._strangers)
            return True
        for _ in range(min(_LOOKED_AT, len(self._clients))):
            victim, _ = self._clients.popitem(last=False)
            if victim.is_idle:
                victim.abort()
                return True
            self._clients[victim] = None
        return False


def _end_first(connections: OrderedDict[Member, None]) -> None:
    first, _ = connections.popitem(last=False)
    first.abort()
