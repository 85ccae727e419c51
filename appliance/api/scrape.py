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
from appliance.model.timestamps import EPOCH, now, seconds_between

Values = dict[tuple[str, ...], float | list[float]]
Samples = dict[str, Values]

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
    for part in (_board, _broker, _store, _quarantine, _handlers, _disks, _processes):
        try:
            part(services, found)
        except StoreError:
            continue
    return found


def _board(services: Services, found: Samples) -> None:
    totals = board.totals(services.config)
    for numbers in (totals.counters, totals.histograms, totals.gauges):
        for key, value in numbers.items():
            name, *labels = key.split(":")
            found.setdefault(name, {})[tuple(labels)] = value
    found["process_starts_total"] = {(name,): n for name, n in totals.starts.items()}


def _broker(services: Services, found: Samples) -> None:
    state = services.broker()
    found["broker_connected"] = {(): int(state.connected)}
    found["broker_blocked"] = {(): int(state.blocked)}
    if state.depth is not None:
        found["queue_envelopes"] = {(): state.depth}
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


def _quarantine(services: Services, found: Samples) -> None:
    totals = services.dead_letters.quarantine()
    found["quarantine_letters"] = {(): totals.letters}
    found["quarantine_size_bytes"] = {(): totals.bytes}


def _handlers(services: Services, found: Samples) -> None:
    backlog = services.handling.backlog()
    found["handler_waiting_messages"] = {(): sum(each.waiting for each in backlog)}
    oldest = min((each.oldest_at for each in backlog if each.oldest_at), default=None)
    age = max(0.0, seconds_between(oldest, now())) if oldest is not None else 0.0
    found["handler_waiting_age_seconds"] = {(): round(age, 3)}


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
