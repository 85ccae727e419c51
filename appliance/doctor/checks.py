"""Every check, in the order in which a person should read them."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final

from appliance.broker.node import release, start
from appliance.config import Address, Config
from appliance.doctor import disk
from appliance.doctor.findings import Finding, Level, error, ok, warning
from appliance.errors import ApplianceError, HostError, NodeError, SchemaError, StoreError
from appliance.machine import memory, pulse
from appliance.store.sqlite import health, upkeep
from appliance.supervision import addresses

#: A clock before this year was never set: many small machines begin in 1970 at each start.
_LEAST_YEAR: Final = 2025
#: Seconds by which the newest message may be later than now.
_SKEW: Final = 300.0
#: Bytes of memory below which the broker blocks publishers before it is of use.
_LEAST_MEMORY: Final = 384 * 2**20
#: Bytes of a write-ahead log that could not be emptied: SQLite starts it over at 40 MB.
_LARGE_WAL: Final = 128 * 2**20


def examine(config: Config) -> Iterator[Finding]:
    """Check everything, beside a running appliance or a stopped one; takes some seconds."""
    yield disk.file_system(config.data)
    yield disk.owner(config.data, config.database)
    yield from disk.room(config.data, config.min_free_bytes)
    yield disk.fsync(config.data)
    yield _sqlite()
    yield _schema(config)
    yield _database(config)
    yield _wal(config)
    yield _broker(config)
    yield from _ports(config)
    yield _clock(config)
    yield _memory()


def at_start(config: Config, *, broker: bool) -> list[Finding]:
    """Check what has to be right before anything is touched; return the warnings.

    Raises HostError, in words, where the appliance can't work or keep its promise here. A full
    disk is not among it: the appliance has to start to get out of it. `broker` says whether our
    own node is about to start as well.
    """
    findings = [disk.file_system(config.data), _sqlite(), _clock(config), _memory()]
    if broker:
        findings.append(_broker(config))
    bad = [finding for finding in findings if finding.level is Level.ERROR]
    if bad:
        raise HostError("; ".join(f"{each.check}: {each.found}; {each.advice}" for each in bad))
    return [finding for finding in findings if finding.level is Level.WARNING]


def _sqlite() -> Finding:
    version = health.version()
    if health.is_safe():
        return ok("SQLite", version)
    return warning(
        "SQLite",
        f"{version} can damage a database when two connections meet in a rare way (WAL reset)",
        "install pysqlite3, which has 3.51.3 or later: pip install pysqlite3",
    )


def _schema(config: Config) -> Finding:
    try:
        found = health.schema(config.database)
    except SchemaError as trouble:
        return error("schema", str(trouble), "see there")
    except StoreError as trouble:
        return error("schema", str(trouble), "see database; restore a backup: appliance restore")
    return ok("schema", found)


def _database(config: Config) -> Finding:
    try:
        return ok("database", health.quick_check(config.database))
    except StoreError as trouble:
        advice = "stop the appliance, keep a copy of the folder, and restore a backup"
        return error("database", str(trouble), f"{advice}: appliance restore")


def _wal(config: Config) -> Finding:
    size = upkeep.wal_size(config.database)
    found = f"{size / 2**20:,.1f} MiB"
    if size < _LARGE_WAL:
        return ok("write-ahead log", found)
    who = ", ".join(upkeep.readers(config.database)) or "none that can be seen"
    return warning(
        "write-ahead log",
        f"{found}, not emptied: a program holds a read open; reading now: {who}",
        "end that program, or its transaction",
    )


def _broker(config: Config) -> Finding:
    if config.broker_url:
        return ok("broker", "an outside one is used (APPLIANCE_BROKER_URL)")
    try:
        installed = release.check(config)
    except NodeError as trouble:
        return error("broker", str(trouble), "see there")
    return ok("broker", f"RabbitMQ {release.text_of(installed)}")


def _ports(config: Config) -> Iterator[Finding]:
    """Check the ports; those that this appliance itself listens on are taken rightly."""
    running = {sign.process for sign in pulse.signs(config)}
    yield _port("HTTP port", "APPLIANCE_HTTP", "api" in running, lambda: _free_http(config))
    if not config.broker_url:
        mine = start.is_running(config)
        yield _port("AMQP port", "APPLIANCE_AMQP", mine, lambda: addresses.choose_amqp(config))


def _free_http(config: Config) -> Address:
    addresses.refuse_taken("APPLIANCE_HTTP", config.http)
    return config.http


def _port(check: str, setting: str, mine: bool, find: Callable[[], Address]) -> Finding:
    if mine:
        return ok(check, "in use by this appliance")
    try:
        return ok(check, f"{find()} is free")
    except ApplianceError as trouble:
        return error(check, str(trouble), f"end what listens there, or set {setting}")


def _clock(config: Config) -> Finding:
    now = time.time()
    shown = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
    advice = "set it (timedatectl, NTP): times of messages and retention go by it"
    if datetime.fromtimestamp(now, UTC).year < _LEAST_YEAR:
        return error("clock", f"{shown} can't be", advice)
    newest = health.newest(config.database)
    if newest is not None and newest > now + _SKEW:
        late = datetime.fromtimestamp(newest, UTC).isoformat(timespec="seconds")
        return warning("clock", f"{shown}, but the newest message is of {late}", advice)
    return ok("clock", shown)


def _memory() -> Finding:
    limit, machine = memory.limit(), memory.total()
    least = min(machine, limit or machine)
    found = f"{least >> 20:,} MiB{' (limited)' if limit else ''}"
    if least < _LEAST_MEMORY:
        return warning("memory", found, f"give it {_LEAST_MEMORY >> 20} MiB or more")
    return ok("memory", found)
