"""Conditions of alerts of deliveries: an endpoint that takes no messages, and who should deliver.

Each endpoint has an alert of its own, under its name; of many that fail at once there is one.
"""

import time
from collections.abc import Iterator
from typing import Final

from appliance.alerts.alert_condition import AlertCondition
from appliance.machine.signs import Sign
from appliance.model.quantities import span_words
from appliance.store.endpoint_rows import ACTIVE, GONE_REASON, EndpointRow
from appliance.store.endpoints import Endpoints

ENDPOINT: Final = "endpoint"
#: The process that delivers, by its sign of life.
DELIVER: Final = "deliver"

#: Seconds without a sign of life; a process that is restarted is away for less.
SILENT_SECONDS: Final = 30.0
#: Seconds for which an endpoint may take no messages: most restarts take less.
_FAILING_SECONDS: Final = 600.0
#: Seconds without a message given up after which that is told no more.
_GIVEN_UP_SECONDS: Final = 900.0
#: Endpoints that have an alert each.
_MOST_NAMED: Final = 20
#: Characters of a receiver's words.
_LONGEST: Final = 300


class EndpointConditions:
    """Looks at the endpoints; remembers how many messages each had given up."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._given_up: dict[int, int] = {}
        self._given_up_at: dict[int, float] = {}

    def now(self) -> list[AlertCondition]:
        """Return the endpoints about which something is wrong. Raises StoreError."""
        found = []
        rows = self._endpoints.all()
        self._note(rows)
        for row in rows:
            if words := "; ".join(self._words(row)):
                text = f"{words}: appliance endpoint show {row.name}"
                found.append(AlertCondition(ENDPOINT, row.name, text))
        if len(found) > _MOST_NAMED:
            text = f"{len(found)} endpoints take no messages: appliance endpoint list"
            return [AlertCondition(ENDPOINT, "", text)]
        return found

    def has_active(self) -> bool:
        """Whether somebody must deliver. Raises StoreError."""
        return any(row.state == ACTIVE for row in self._endpoints.all())

    def _note(self, rows: list[EndpointRow]) -> None:
        """Note when a message was given up, as far as it was after the first look."""
        now = time.monotonic()
        for row in rows:
            if row.given_up > self._given_up.get(row.id, row.given_up):
                self._given_up_at[row.id] = now
        self._given_up = {row.id: row.given_up for row in rows}
        self._given_up_at = {
            number: at
            for number, at in self._given_up_at.items()
            if number in self._given_up and now - at < _GIVEN_UP_SECONDS
        }

    def _words(self, row: EndpointRow) -> Iterator[str]:
        failing = 0.0 if row.broken_at is None else time.time() - row.broken_at
        if row.state == ACTIVE and failing > _FAILING_SECONDS:
            yield f"it has taken no messages for {span_words(failing)} ({row.trouble[:_LONGEST]})"
        if row.state != ACTIVE and row.reason == GONE_REASON:
            yield f"it is paused: {row.reason}"
        if row.id in self._given_up_at:
            yield "messages for it were given up"


def deliverer(living: list[Sign]) -> str:
    """Return in words what is wrong with the process that delivers; empty: nothing is."""
    ages = [sign.seconds_ago for sign in living if sign.process == DELIVER]
    if not ages:
        return "no deliver runs, and an endpoint waits for messages"
    if min(ages) > SILENT_SECONDS:
        return f"the deliver gave no sign of life for {span_words(min(ages))}"
    return ""
