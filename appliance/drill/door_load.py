"""Senders that go through another door than HTTP, one message at a time, and keep a journal."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from appliance.drill.journal import Attempt, Journal, text
from appliance.drill.load import Load, Style
from appliance.errors import BrokerError

#: The status that a message has in the journal once the door has acknowledged it.
_ACCEPTED = 202


class DoorLink(Protocol):
    """A client of a door; it connects when it has to."""

    def send(self, topic: str, body: bytes, key: str | None) -> None:
        """Send one message, and wait until it is acknowledged. Raises BrokerError or OSError."""

    def close(self) -> None:
        """Disconnect; the next message connects again."""


class DoorLoad(Load):
    """A load through the clients that `open_link` makes, one for each sender."""

    def __init__(
        self,
        open_link: Callable[[Style], DoorLink],
        name: str,
        *,
        senders: int,
        rate: float | None,
        styles: Sequence[Style],
        journal: Journal,
    ) -> None:
        super().__init__("", "", name, senders=senders, rate=rate, styles=styles, journal=journal)
        self._open_link = open_link

    def _link(self, style: Style) -> DoorLink:
        return self._open_link(style)

    def _attempt(self, link: Any, topic: str, first: int, count: int, style: Style) -> Attempt:
        key = f"{topic}-{first}" if style is Style.KEYED else None
        began = time.monotonic()
        try:
            link.send(topic, text(topic, first).encode(), key)
        except (BrokerError, OSError) as error:
            link.close()
            took = time.monotonic() - began
            return Attempt(topic, first, count, 0, (), began, took, detail=repr(error))
        return Attempt(topic, first, count, _ACCEPTED, (), began, time.monotonic() - began)
