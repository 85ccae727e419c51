"""Readiness: whether a message sent now would be kept and stored, and if not, why not."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from appliance.broker.base import PROBE_FACT, BrokerState, ProbeState
from appliance.config import Config
from appliance.errors import (
    DamagedError,
    FewCopiesError,
    OldPrimaryError,
    SchemaError,
    StoreError,
    TablesError,
)
from appliance.machine import disk_space
from appliance.machine.pulse import TROUBLE
from appliance.machine.signs import Sign, signs
from appliance.store.base import Reader

#: Seconds after which the last look at the queue, or a sign of life, is out of date: several times
#: the pause between two of them.
_STALE_SECONDS: Final = 15.0
#: Seconds without any confirm from a node of a cluster, after which others are to be asked.
_UNSURE_SECONDS: Final = 2.0


@dataclass(frozen=True)
class Readiness:
    """The outcome of each check, and a sentence for each that failed."""

    checks: dict[str, bool] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        """Whether every check passed."""
        return all(self.checks.values())

    def add(self, name: str, passed: bool, reason: str) -> None:
        """Record one check; `reason` counts only where it failed."""
        self.checks[name] = passed
        if not passed:
            self.reasons.append(reason)


def assess(config: Config, reader: Reader, broker: BrokerState) -> Readiness:
    """Check everything that a message needs on its way to a row."""
    readiness = Readiness()
    live_signs = signs(config)
    _check_broker(readiness, broker)
    _check_attached(readiness, broker)
    _check_probe(readiness, live_signs)
    _check_workers(readiness, live_signs)
    _check_disks(readiness, config)
    _check_store(readiness, reader)
    return readiness


def assess_intake(config: Config, broker: BrokerState) -> Readiness:
    """Check only that a message sent now would be kept; it can wait in the queue to be stored.

    Where several APIs stand behind one address, a database that is away makes none of them worse
    than the others: all go on to take messages.
    """
    readiness = Readiness()
    _check_broker(readiness, broker)
    _check_probe(readiness, signs(config))
    _check_disks(readiness, config)
    return readiness


def _check_broker(readiness: Readiness, broker: BrokerState) -> None:
    readiness.add("broker_connected", broker.connected, "the broker is not connected")
    if not broker.connected:
        return  # the other checks have no answer
    readiness.add("broker_not_blocked", not broker.blocked, "the broker blocks publishers")
    readiness.add(
        "broker_accepts",
        broker.accepting,
        f"the broker does not accept: {broker.reason or 'no reason given'}",
    )
    unsure = broker.unsure_seconds
    readiness.add(
        "broker_confirms",
        unsure < _UNSURE_SECONDS,
        f"no confirm from the broker's node for {unsure:.1f} s",
    )
    readiness.add("queue_has_room", not broker.full, "the queue is full")
    age = broker.checked_seconds_ago
    if age is None or age > _STALE_SECONDS or broker.consumers is None:
        last_look = "never" if age is None else f"{age:.0f} s ago"
        readiness.add("queue_seen", False, f"the queue was last looked at {last_look}")
        return
    readiness.add("queue_seen", True, "")


def _check_attached(readiness: Readiness, broker: BrokerState) -> None:
    """Check that a worker is there, where the last look at the queue tells."""
    if broker.connected and readiness.checks["queue_seen"]:
        attached = (broker.consumers or 0) >= 1
        readiness.add("worker_attached", attached, "no worker is attached to the queue")


def _check_probe(readiness: Readiness, live_signs: Sequence[Sign]) -> None:
    """Use the probe's last result, unless the process that probes is stopped itself."""
    for sign in live_signs:
        result = sign.facts.get(PROBE_FACT)
        if result and sign.seconds_ago < _STALE_SECONDS:
            reason = f"the broker runs and does not serve: {result['reason']}"
            readiness.add("broker_serves", result["state"] != ProbeState.FAILS, reason)


def _check_workers(readiness: Readiness, live_signs: Sequence[Sign]) -> None:
    """Check that a worker is alive, and that none holds messages that it can't store."""
    workers = [sign for sign in live_signs if sign.process == "worker"]
    if not workers:
        return  # none runs, or it is just starting: `worker_attached` says more
    silent = min(sign.seconds_ago for sign in workers)
    readiness.add(
        "worker_alive", silent < _STALE_SECONDS, f"no worker gave a sign of life for {silent:.0f} s"
    )
    trouble = next((text for sign in workers if (text := sign.facts.get(TROUBLE))), "")
    readiness.add("worker_stores", not trouble, f"a worker holds what it can't store: {trouble}")


def _check_disks(readiness: Readiness, config: Config) -> None:
    try:
        disks = disk_space.disks(config)
    except StoreError:
        readiness.add("disk_free", False, "the data's disk can't be asked for its free space")
        return
    for disk in disks:
        if disk.lacks:
            readiness.add("disk_free", False, disk.lacks)
    readiness.checks.setdefault("disk_free", True)


def _check_store(readiness: Readiness, reader: Reader) -> None:
    passed, reason, copied = True, "", True
    try:
        reader.check()
    except FewCopiesError:
        copied = False
    except OldPrimaryError:
        passed = False
        reason = "the database that answers is an old primary, and another took its place"
    except SchemaError:
        passed, reason = False, "the database is not at this program's schema"
    except TablesError:
        passed, reason = False, "the database's tables were changed so that they take no message"
    except DamagedError:
        passed, reason = False, "the database is damaged"
    except StoreError:
        passed, reason = False, "the database can't be read"
    readiness.add("store_readable", passed, reason)
    readiness.add(
        "store_copied", copied, "fewer synchronous copies of the database than the settings ask for"
    )
