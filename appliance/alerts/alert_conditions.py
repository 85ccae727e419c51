"""Conditions of alerts: what is wrong now, in words, as the janitor can see it.

Each has a kind, a subject (a topic, a disk, a process; it can be empty), and how many seconds it
must last before it is worth an alert.
"""

import time
from collections.abc import Container, Iterator
from typing import Final

from appliance.alerts.alert_condition import AlertCondition
from appliance.alerts.endpoint_conditions import (
    DELIVER,
    ENDPOINT,
    SILENT_SECONDS,
    EndpointConditions,
    deliverer,
)
from appliance.alerts.handler_conditions import HANDLE, HANDLER, late_functions, runner_trouble
from appliance.broker.base import PROBE_FACT, ProbeState
from appliance.config import Config
from appliance.errors import StoreError
from appliance.machine import disk_space
from appliance.machine.signs import Sign, signs
from appliance.metrics import board
from appliance.metrics.board import BoardTotals
from appliance.model.expectations import Expectation
from appliance.model.quantities import span_words
from appliance.model.timestamps import EPOCH, seconds_between
from appliance.proofs import proof_book
from appliance.proofs.canary_book import canary_trouble
from appliance.store.base import Reader
from appliance.store.endpoints import Endpoints
from appliance.store.handler_rows import Handling

#: Kinds of alerts.
SILENCE: Final = "silence"
LAG: Final = "lag"
DEAD_LETTERS: Final = "dead-letters"
DISK: Final = "disk"
HEARTBEAT: Final = "heartbeat"
BROKER: Final = "broker"
BACKUP: Final = "backup"
CANARY: Final = "canary"
COPIES: Final = "copies"
KINDS: Final = (
    SILENCE, LAG, DEAD_LETTERS, DISK, HEARTBEAT, BROKER, BACKUP, CANARY, COPIES, ENDPOINT,
    HANDLER,
)  # fmt: skip

#: Seconds that a message may wait in the queue, or in a worker's hand.
_LAG_SECONDS: Final = 300.0
_HOLDING_SECONDS: Final = 60.0
#: Seconds without a new dead letter after which the alert is over.
_DEAD_SECONDS: Final = 900.0
#: Seconds that a condition lasts which a restart causes too.
_PATIENCE: Final = 60.0
#: Topics that are looked at, and silent ones that have an alert each.
_MOST_TOPICS: Final = 10_000
_MOST_SILENT: Final = 20
_PROCESSES: Final = ("api", "worker")
#: Characters of a text that comes from elsewhere.
_LONGEST: Final = 500


class AlertConditions:
    """Looks at everything; remembers how many dead letters there were.

    `raised` holds the keys of the alerts that a look before a restart has raised.
    """

    def __init__(
        self,
        config: Config,
        reader: Reader,
        raised: Container[str] = (),
        endpoints: Endpoints | None = None,
        handling: Handling | None = None,
    ) -> None:
        self._config = config
        self._reader = reader
        self._raised = raised
        self._endpoints = None if endpoints is None else EndpointConditions(endpoints)
        self._handling = handling
        self._began = time.time()
        self._dead: float | None = None
        self._died_at = time.monotonic() if DEAD_LETTERS in raised else 0.0

    def now(self) -> list[AlertCondition]:
        """Return what is wrong now. A part that can't be looked at is left out."""
        living = signs(self._config)
        found = [*_heartbeats(living), *_broker(living)]
        if text := proof_book.trouble(self._config):
            found.append(AlertCondition(BACKUP, "", text[:_LONGEST]))
        if text := canary_trouble(self._config):
            found.append(AlertCondition(CANARY, "", text[:_LONGEST]))
        parts = (
            self._silences, self._disks, self._counted, self._copies,
            lambda: self._deliveries(living), lambda: self._handlers(living),
        )  # fmt: skip
        for part in parts:
            try:
                found += part()
            except StoreError:
                continue
        return found

    def _silences(self) -> list[AlertCondition]:
        if not self._config.expect:
            return []
        now, last = time.time(), {}
        for row in self._reader.topics(limit=_MOST_TOPICS):
            if expected := self._config.expect.of(row.topic):
                last[row.topic] = expected, seconds_between(EPOCH, row.last_at)
        for expected in self._config.expect.all:
            if expected.is_of_one and expected.pattern not in last:
                last[expected.pattern] = expected, 0.0
        silent = []
        for topic, (expected, at) in last.items():
            silence = _silence(topic, expected, at, now)
            # A start gives everyone the time that is theirs, but for who was silent before it.
            since = at if silence.key in self._raised else max(at, self._began)
            if now - since > expected.seconds:
                silent.append(silence)
        if len(silent) > _MOST_SILENT:
            return [AlertCondition(SILENCE, "", f"{len(silent)} topics are silent")]
        return silent

    def _deliveries(self, living: list[Sign]) -> list[AlertCondition]:
        if self._endpoints is None:
            return []
        found = self._endpoints.now()
        if self._endpoints.has_active() and (text := deliverer(living)):
            found.append(AlertCondition(HEARTBEAT, DELIVER, text, _PATIENCE))
        return found

    def _handlers(self, living: list[Sign]) -> list[AlertCondition]:
        if self._handling is None:
            return []
        found = late_functions(self._handling, living)
        if self._config.handlers and (text := runner_trouble(living, SILENT_SECONDS)):
            found.append(AlertCondition(HEARTBEAT, HANDLE, text, _PATIENCE))
        return found

    def _disks(self) -> Iterator[AlertCondition]:
        for disk in disk_space.disks(self._config):
            if disk.free < 2 * disk.floor:
                name = disk.name.split()[1].removesuffix("'s")
                text = f"{disk.free} bytes are free on {disk.name}; below {disk.floor} messages "
                yield AlertCondition(DISK, name, f"{text}are refused")

    def _copies(self) -> Iterator[AlertCondition]:
        wanted = self._config.database_synchronous_copies
        copies = self._reader.details().get("synchronous_copies") if wanted else None
        if isinstance(copies, int) and copies < wanted:
            text = f"of {wanted} synchronous copies of the database {copies} are there; messages "
            yield AlertCondition(COPIES, "", f"{text}wait in the queue", _PATIENCE)

    def _counted(self) -> Iterator[AlertCondition]:
        totals = board.totals(self._config)
        oldest = totals.gauges.get("queue_oldest_age_seconds", 0.0)
        if oldest > _LAG_SECONDS:
            text = f"the oldest message has waited {span_words(oldest)} in the queue"
            yield AlertCondition(LAG, "queue", text)
        holding = totals.gauges.get("store_holding_seconds", 0.0)
        if holding > _HOLDING_SECONDS:
            text = f"a worker has tried to store for {span_words(holding)}"
            yield AlertCondition(LAG, "store", text)
        yield from self._dead_letters(totals)

    def _dead_letters(self, totals: BoardTotals) -> Iterator[AlertCondition]:
        """Yield a condition while letters come that no stranger can cause."""
        counters = totals.counters
        dead = sum(n for name, n in counters.items() if name.startswith("messages_dead_total:"))
        dead -= counters.get("messages_quarantined_total", 0)
        if self._dead is not None and dead > self._dead:
            self._died_at = time.monotonic()
        self._dead = dead
        if self._died_at and time.monotonic() - self._died_at < _DEAD_SECONDS:
            yield AlertCondition(
                DEAD_LETTERS, "", "messages became dead letters: appliance dead list"
            )


def _silence(topic: str, expected: Expectation, at: float, now: float) -> AlertCondition:
    ago = f"no message for {span_words(now - at)}" if at else "no message ever"
    return AlertCondition(
        SILENCE, topic, f"{ago}; one is expected every {span_words(expected.seconds)}"
    )


def _heartbeats(living: list[Sign]) -> Iterator[AlertCondition]:
    for process in _PROCESSES:
        ages = [sign.seconds_ago for sign in living if sign.process == process]
        if not ages:
            yield AlertCondition(HEARTBEAT, process, f"no {process} runs", _PATIENCE)
        elif min(ages) > SILENT_SECONDS:
            text = f"the {process} gave no sign of life for {span_words(min(ages))}"
            yield AlertCondition(HEARTBEAT, process, text)


def _broker(living: list[Sign]) -> Iterator[AlertCondition]:
    for sign in living:
        probe = sign.facts.get(PROBE_FACT)
        if probe and probe.get("state") in (ProbeState.AWAY, ProbeState.FAILS, ProbeState.BLOCKED):
            text = f"the broker does not serve: {probe.get('reason') or probe['state']}"
            yield AlertCondition(BROKER, "", text[:_LONGEST], _PATIENCE)
