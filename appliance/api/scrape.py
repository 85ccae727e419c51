"""A scrape: the board's numbers, and those that are looked up when /metrics is asked for.

A part that can't be read is left out, and the others are there: an alert of a missing number is
better than no numbers at all.
"""

import platform
from typing import Final

from appliance.api.services import Services
from appliance.errors import StoreError
from appliance.machine import disk_space
from appliance.machine.signs import signs
from appliance.metrics import board
from appliance.model import timestamps
from appliance.model.timestamps import EPOCH, seconds_between
from appliance.store.endpoint_rows import ACTIVE
from appliance.store.replay_rows import STATES

Values = dict[tuple[str, ...], float | list[float]]
Samples = dict[str, Values]

#: Subscriptions that have metrics, and messages of one that are counted as its lag: the numbers are
#: asked for four times a minute.
_MOST_SUBSCRIPTIONS: Final = 100
_MOST_LAG: Final = 10_000
#: Words of the disks' names that tell them apart: "the data's disk".
_DISKS: Final = {"the data's disk": "data", "the broker's disk": "broker"}


def samples(services: Services) -> Samples:
    """Return all values, by metric and labels."""
    found: Samples = {
        "build_info": {
            (services.version, platform.python_version(), " ".join(services.reader.engine)): 1
        },
        "ready": {(): int(services.readiness().ready)},
    }
    for part in _PARTS:
        try:
            part(services, found)
        except StoreError:
            continue
    return found


def _board(services: Services, found: Samples) -> None:
    totals = board.totals(services.config)
    for numbers in (totals.counters, totals.histograms, totals.gauges):
        for key, value in numbers.items():
            name, *labels = key.split(":", 2)  # a function's name has a colon too
            found.setdefault(name, {})[tuple(labels)] = value
    found["process_starts_total"] = {(name,): n for name, n in totals.starts.items()}


def _broker(services: Services, found: Samples) -> None:
    state = services.broker()
    found["broker_connected"] = {(): int(state.connected)}
    found["broker_blocked"] = {(): int(state.blocked)}
    if state.depth is not None:
        found["queue_envelopes"] = {(): state.depth}
    for place, shard in enumerate(getattr(state, "shards", ())):
        if shard.depth is not None:
            found.setdefault("shard_envelopes", {})[str(place),] = shard.depth
    if state.consumers is not None:
        found["queue_consumers"] = {(): state.consumers}
    if state.oldest_seconds is not None:
        found["queue_oldest_age_seconds"] = {(): round(state.oldest_seconds, 3)}


def _store(services: Services, found: Samples) -> None:
    totals, details = services.reader.totals(), services.reader.details()
    found["messages"] = {(): totals.messages}
    found["topics"] = {(): totals.topics}
    found["dead_letters"] = {(): totals.dead_letters}
    found["database_size_bytes"] = {(): totals.database_bytes}
    if totals.last_at is not None:
        found["last_message_timestamp_seconds"] = {(): seconds_between(EPOCH, totals.last_at)}
    wal = details.get("wal_bytes")
    if isinstance(wal, int):
        found["wal_size_bytes"] = {(): wal}
    copies = details.get("synchronous_copies")
    if isinstance(copies, int):
        found["database_synchronous_copies"] = {(): copies}


def _quarantine(services: Services, found: Samples) -> None:
    totals = services.dead_letters.quarantine()
    found["quarantine_letters"] = {(): totals.letters}
    found["quarantine_size_bytes"] = {(): totals.bytes}


def _handlers(services: Services, found: Samples) -> None:
    waiting: Values = {(each,): 0 for each in services.config.handlers.functions}
    ages: Values = dict(waiting)
    now = timestamps.now()
    for each in services.handling.backlog():
        waiting[each.function,] = each.waiting
        if each.oldest_at is not None:
            ages[each.function,] = round(max(0.0, seconds_between(each.oldest_at, now)), 3)
    found["handler_waiting_messages"], found["handler_waiting_age_seconds"] = waiting, ages


def _replays(services: Services, found: Samples) -> None:
    rows = services.replays.newest()
    for state in STATES:
        sent = [row.sent for row in rows if row.state == state]
        found.setdefault("replays", {})[state,] = len(sent)
        found.setdefault("replay_sent_messages", {})[state,] = sum(sent)


def _endpoints(services: Services, found: Samples) -> None:
    for row in services.endpoints.all():
        label, backlog = (row.name,), services.endpoints.backlog(row)
        lag = 0.0
        if backlog.oldest_at is not None:
            lag = max(0.0, seconds_between(backlog.oldest_at, timestamps.now()))
        for name, value in (
            ("lag_messages", backlog.behind),
            ("lag_seconds", round(lag, 1)),
            ("waiting_messages", backlog.waiting),
            ("given_up_messages", backlog.given_up),
            ("breaker_open", int(row.state == ACTIVE and row.broken_at is not None)),
            ("paused", int(row.state != ACTIVE)),
        ):
            found.setdefault(f"endpoint_{name}", {})[label] = value


def _subscriptions(services: Services, found: Samples) -> None:
    for row in services.subscriptions.all()[:_MOST_SUBSCRIPTIONS]:
        label, counts = (row.name,), services.subscriptions.counts(row.name, _MOST_LAG)
        for name, value in (
            ("lag_messages", counts.lag),
            ("leased_messages", counts.leased),
            ("waiting_messages", counts.waiting),
            ("dead_messages", counts.dead),
            ("redelivered_total", row.redelivered),
        ):
            found.setdefault(f"subscription_{name}", {})[label] = value


def _delayed(services: Services, found: Samples) -> None:
    waiting = services.delayed.waiting()
    found["delayed_messages"] = {(): waiting.messages}
    if waiting.next_due_at is not None:
        due = seconds_between(EPOCH, waiting.next_due_at)
        found["delayed_next_due_timestamp_seconds"] = {(): due}


def _disks(services: Services, found: Samples) -> None:
    for disk in disk_space.disks(services.config):
        label = (_DISKS.get(disk.name, disk.name),)
        found.setdefault("disk_free_bytes", {})[label] = disk.free
        found.setdefault("disk_size_bytes", {})[label] = disk.total
        found.setdefault("disk_floor_bytes", {})[label] = disk.floor
    if (full_at := services.chronicler.full_at()) is not None:
        found["disk_full_timestamp_seconds"] = {("data",): round(full_at)}


def _processes(services: Services, found: Samples) -> None:
    up: Values = {}
    uptime: Values = {}
    for process in services.processes():
        up[process.name,] = int(process.state == "RUNNING")
        if process.uptime_seconds is not None:
            uptime[process.name,] = round(process.uptime_seconds, 1)
    found["process_up"], found["process_uptime_seconds"] = up, uptime
    ages: dict[tuple[str, ...], float] = {}
    for sign in signs(services.config):
        label = (sign.process,)
        ages[label] = max(ages.get(label, 0.0), round(sign.seconds_ago, 1))
    found["heartbeat_age_seconds"] = dict(ages)


_PARTS: Final = (
    _board, _broker, _store, _quarantine, _endpoints, _subscriptions, _replays, _delayed, _handlers,
    _disks, _processes,
)  # fmt: skip
