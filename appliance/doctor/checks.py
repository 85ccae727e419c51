"""Every check, in the order in which a person should read them."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Final

from appliance.broker.node import mqtt_plugin, release, start
from appliance.config import Address, Config
from appliance.doctor import cluster, data_folder, deliverer, network
from appliance.doctor.diagnosis import Diagnosis, Level, error, ok, warning
from appliance.errors import ApplianceError, HostError, NodeError, StoreError
from appliance.machine import allowance, memory, place
from appliance.machine.pulse import TROUBLE
from appliance.machine.signs import HANDLER_TROUBLE, signs
from appliance.store.base import Health, HealthCheck, Store
from appliance.supervision import addresses

#: A clock before this year was never set: many small machines begin in 1970 at each start.
_LEAST_YEAR: Final = 2025
#: Seconds by which the newest message may be later than now.
_SKEW: Final = 300.0


def examine(config: Config, store: Store) -> Iterator[Diagnosis]:
    """Check everything, while the appliance runs or when it is stopped; takes some seconds."""
    yield data_folder.file_system(config.data)
    yield data_folder.owner(config.data, store.health.files())
    yield _place(config)
    yield from data_folder.room(config.data, config.min_free_bytes)
    yield data_folder.fsync(config.data)
    yield _of_store(store.health.engine())
    yield from map(_of_store, store.health.database())
    yield _storing(config)
    yield _handlers(config, store)
    yield deliverer.delivers(config, store.endpoints)
    yield _broker(config)
    yield from cluster.nodes(config)
    yield from _ports(config)
    yield network.http(config)
    yield network.amqp(config)
    yield network.mqtt(config)
    yield _clock(store.health)
    yield _memory()


def at_start(config: Config, store: Store, *, broker: bool) -> list[Diagnosis]:
    """Run the checks that must pass before anything is touched; return the warnings.

    Raises HostError, in words, where the appliance can't work or keep its promise here. A full
    disk does not stop a start: the appliance must start to get out of it. `broker` says whether our
    own node is about to start as well.
    """
    engine = _of_store(store.health.engine())
    results = [data_folder.file_system(config.data), _place(config), engine]
    # `run` is followed by `migrate`, whose log tells what the database's first reader finds.
    results += [_clock(None if broker else store.health), _memory()]
    if broker:
        results += [_broker(config), network.amqp(config), network.mqtt(config)]
    errors = [result for result in results if result.level is Level.ERROR]
    if errors:
        raise HostError("; ".join(f"{each.check}: {each.found}; {each.advice}" for each in errors))
    return [result for result in results if result.level is Level.WARNING]


def _place(config: Config) -> Diagnosis:
    if trouble := place.problem(config):
        return error("place", trouble.found, trouble.advice)
    return ok("place", "where it was, with its own broker's files")


def _of_store(outcome: HealthCheck) -> Diagnosis:
    return Diagnosis(outcome.check, Level(outcome.level), outcome.text, outcome.advice)


def _storing(config: Config) -> Diagnosis:
    """Say what a worker that runs complains of: it holds messages that it can't store."""
    for sign in signs(config):
        if trouble := sign.facts.get(TROUBLE):
            return error(
                "storing",
                f"a worker holds what it can't store: {trouble}",
                "`appliance status` and the worker's log say why; no accepted message is lost",
            )
    return ok("storing", "no worker complains")


def _handlers(config: Config, store: Store) -> Diagnosis:
    """Say what handler processes complain of, and messages that wait though none runs."""
    living = [sign for sign in signs(config) if sign.process == "handle"]
    for sign in living:
        if trouble := sign.facts.get(HANDLER_TROUBLE):
            return warning(
                "handlers",
                f"{trouble}: messages wait for it",
                f"the log of the process handle says why; modules are in {config.handlers_home}",
            )
    try:
        waiting = sum(each.waiting for each in store.handling.backlog())
    except StoreError:  # the check of the database says so
        return ok("handlers", "the database can't be asked")
    if config.handlers and not living and waiting:
        return warning(
            "handlers",
            f"{waiting:,} messages wait for a handler, and no process runs any",
            "start `appliance handle` (appliance-handle@0.service)",
        )
    if not config.handlers:
        return ok("handlers", "none")
    return ok("handlers", f"{config.handlers}; {waiting:,} messages wait")


def _broker(config: Config) -> Diagnosis:
    if config.broker_url:
        return ok("broker", "an outside one is used (APPLIANCE_BROKER_URL)")
    try:
        installed = release.check(config)
        mqtt_plugin.check(config, installed)
    except NodeError as trouble:
        return error("broker", str(trouble), "mend the cause that the message names")
    return ok("broker", f"RabbitMQ {release.text_of(installed)}")


def _ports(config: Config) -> Iterator[Diagnosis]:
    """Check that the ports are free, or used by this appliance itself."""
    apis = sum(sign.process == "api" for sign in signs(config))
    yield _port(
        "HTTP port",
        "APPLIANCE_HTTP",
        apis > 0,
        lambda: _free("APPLIANCE_HTTP", config.http),
        f", by {apis} API processes" if apis > 1 else "",
    )
    mine = start.is_running(config)
    if not config.broker_url:
        yield _port("AMQP port", "APPLIANCE_AMQP", mine, lambda: addresses.choose_amqp(config))
    for check, setting, address in (
        ("MQTT port", "APPLIANCE_MQTT", config.mqtt),
        ("MQTT port with TLS", "APPLIANCE_MQTTS", config.mqtts),
    ):
        if address is not None:
            yield _port(check, setting, mine, partial(_free, setting, address))


def _free(setting: str, address: Address) -> Address:
    addresses.refuse_taken(setting, address)
    return address


def _port(
    check: str, setting: str, mine: bool, find: Callable[[], Address], by: str = ""
) -> Diagnosis:
    if mine:
        return ok(check, f"in use by this appliance{by}")
    try:
        return ok(check, f"{find()} is free")
    except ApplianceError as trouble:
        return error(check, str(trouble), f"end the program that listens there, or set {setting}")


def _clock(health: Health | None) -> Diagnosis:
    now = time.time()
    shown = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
    advice = "set the clock (timedatectl, NTP): the times of messages and retention depend on it"
    if datetime.fromtimestamp(now, UTC).year < _LEAST_YEAR:
        return error("clock", f"{shown} can't be right", advice)
    newest = health.newest() if health is not None else None
    if newest is not None and newest > now + _SKEW:
        late = datetime.fromtimestamp(newest, UTC).isoformat(timespec="seconds")
        return warning("clock", f"{shown}, but the newest message has the time {late}", advice)
    return ok("clock", shown)


def _memory() -> Diagnosis:
    limit, usable = memory.limit(), allowance.usable()
    shown = f"{usable >> 20:,} MiB{' (limited)' if limit else ''}"
    if usable < allowance.LEAST_BYTES:
        return error(
            "memory",
            f"{shown}: the kernel would end processes under load, again and again",
            f"give it {allowance.LEAST_BYTES >> 20} MiB; with {allowance.SMALL_BYTES >> 20} MiB or "
            "more, it takes large requests too",
        )
    if usable < allowance.SMALL_BYTES:
        return warning(
            "memory",
            f"{shown}: one worker, and smaller requests",
            f"give it {allowance.SMALL_BYTES >> 20} MiB or more for the ordinary limits",
        )
    return ok("memory", shown)
