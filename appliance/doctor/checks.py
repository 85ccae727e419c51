"""Every check, in the order in which a person should read them."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final

from appliance.broker.node import release, start
from appliance.config import Address, Config
from appliance.doctor import disk
from appliance.doctor.findings import Finding, Level, error, ok, warning
from appliance.errors import ApplianceError, HostError, NodeError
from appliance.machine import memory, pulse
from appliance.store.base import Health, HealthCheck, Store
from appliance.supervision import addresses

#: A clock before this year was never set: many small machines begin in 1970 at each start.
_LEAST_YEAR: Final = 2025
#: Seconds by which the newest message may be later than now.
_SKEW: Final = 300.0
#: Bytes of memory below which the broker blocks publishers before it is of use.
_LEAST_MEMORY: Final = 384 * 2**20


def examine(config: Config, store: Store) -> Iterator[Finding]:
    """Check everything, beside a running appliance or a stopped one; takes some seconds."""
    yield disk.file_system(config.data)
    yield disk.owner(config.data, store.health.files())
    yield from disk.room(config.data, config.min_free_bytes)
    yield disk.fsync(config.data)
    yield _of_store(store.health.engine())
    yield from map(_of_store, store.health.database())
    yield _broker(config)
    yield from _ports(config)
    yield _clock(store.health)
    yield _memory()


def at_start(config: Config, store: Store, *, broker: bool) -> list[Finding]:
    """Check what has to be right before anything is touched; return the warnings.

    Raises HostError, in words, where the appliance can't work or keep its promise here. A full
    disk is not among it: the appliance has to start to get out of it. `broker` says whether our
    own node is about to start as well.
    """
    engine = _of_store(store.health.engine())
    findings = [disk.file_system(config.data), engine, _clock(store.health), _memory()]
    if broker:
        findings.append(_broker(config))
    bad = [finding for finding in findings if finding.level is Level.ERROR]
    if bad:
        raise HostError("; ".join(f"{each.check}: {each.found}; {each.advice}" for each in bad))
    return [finding for finding in findings if finding.level is Level.WARNING]


def _of_store(outcome: HealthCheck) -> Finding:
    return Finding(outcome.check, Level(outcome.level), outcome.text, outcome.advice)


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


def _clock(health: Health) -> Finding:
    now = time.time()
    shown = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
    advice = "set it (timedatectl, NTP): times of messages and retention go by it"
    if datetime.fromtimestamp(now, UTC).year < _LEAST_YEAR:
        return error("clock", f"{shown} can't be", advice)
    newest = health.newest()
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
