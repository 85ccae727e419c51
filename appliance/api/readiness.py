"""Whether a message sent now would be kept and stored, and if not, why not."""

import os
from dataclasses import dataclass, field
from typing import Final

from appliance.broker.state import BrokerState
from appliance.config import Config
from appliance.errors import SchemaError, StoreError
from appliance.store.reader import Reader

#: Seconds after which what was last heard of the queue counts as unknown: several times the pause
#: between two looks at it.
_STALE_SECONDS: Final = 15.0


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
        """Record one check; `reason` says why it failed, should it have."""
        self.checks[name] = passed
        if not passed:
            self.reasons.append(reason)


@dataclass(frozen=True, slots=True)
class Disk:
    """The data's file system, in bytes. `floor` is what must stay free."""

    free: int
    total: int
    floor: int


def disk(config: Config) -> Disk:
    """Return the state of the disk that holds the data. Raises StoreError if it can't be asked."""
    try:
        status = os.statvfs(config.data)
    except OSError as error:
        raise StoreError(f"{config.data}: {error.strerror}") from error
    return Disk(
        free=status.f_bavail * status.f_frsize,
        total=status.f_blocks * status.f_frsize,
        floor=config.min_free_bytes,
    )


def assess(config: Config, reader: Reader, broker: BrokerState) -> Readiness:
    """Check everything a message needs on its way to a row."""
    readiness = Readiness()
    _check_broker(readiness, broker)
    _check_disk(readiness, config)
    _check_store(readiness, reader)
    return readiness


def _check_broker(readiness: Readiness, broker: BrokerState) -> None:
    readiness.add("broker_connected", broker.connected, "the broker is not connected")
    if not broker.connected:
        return  # the rest is not known
    readiness.add("broker_not_blocked", not broker.blocked, "the broker blocks publishers")
    readiness.add(
        "broker_accepts",
        broker.accepting,
        f"the broker does not accept: {broker.reason or 'no reason given'}",
    )
    age = broker.checked_seconds_ago
    if age is None or age > _STALE_SECONDS or broker.consumers is None:
        heard = "never" if age is None else f"{age:.0f} s ago"
        readiness.add("queue_seen", False, f"the queue was last looked at {heard}")
        return
    readiness.add("queue_seen", True, "")
    readiness.add("worker_attached", broker.consumers >= 1, "no worker is attached to the queue")


def _check_disk(readiness: Readiness, config: Config) -> None:
    try:
        state = disk(config)
    except StoreError:
        readiness.add("disk_free", False, "the data's disk can't be asked for its free space")
        return
    reason = f"{state.free} bytes are free on the data's disk, {state.floor} must stay free"
    readiness.add("disk_free", state.free >= state.floor, reason)


def _check_store(readiness: Readiness, reader: Reader) -> None:
    passed, reason = True, ""
    try:
        reader.check()
    except SchemaError:
        passed, reason = False, "the database is not at this program's schema"
    except StoreError:
        passed, reason = False, "the database can't be read"
    readiness.add("store_readable", passed, reason)
