"""The appliance at a glance: processes, broker, queue, store, disk."""

from dataclasses import asdict
from typing import Any, Final

from flask import Blueprint, Response, request

from appliance.alerts import alert_book
from appliance.alerts.endpoint_conditions import deliverer
from appliance.api.services import Services
from appliance.api.views import parameters, visible
from appliance.api.views.answers import json_answer
from appliance.broker.base import PROBE_FACT
from appliance.config import Config
from appliance.errors import StoreError
from appliance.machine import disk_space
from appliance.machine.signs import Sign, signs
from appliance.model import timestamps
from appliance.proofs import canary_book, proof_book
from appliance.readiness import Readiness
from appliance.store.base import Reader
from appliance.store.endpoint_rows import ACTIVE

#: Members of `store` that speak of all topics together.
_OF_ALL: Final = ("database_bytes",)
#: Reasons for which requests are refused, and how often that was slow.
_REFUSALS: Final = ("unauthorized", "forbidden", "unknown-inbox", "bad-signature", "slowed")


def blueprint(services: Services) -> Blueprint:
    """Serve /v1/status; a part that can't be read is null, and the others are still there.

    Who may read some topics only gets the numbers of those, and nothing that tells of the others.
    """
    views = Blueprint("status", __name__)

    @views.get("/v1/status")
    def show_status() -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        readiness = services.readiness()
        if (patterns := visible.patterns()) is not None:
            return json_answer(_restricted(services, readiness, patterns))
        living = signs(services.config)
        return json_answer(
            {
                "version": services.version,
                "time": timestamps.now(),
                "ready": readiness.ready,
                "reasons": readiness.reasons,
                "processes": [asdict(process) for process in services.processes()],
                "pulses": [_pulse(sign) for sign in living],
                "probe": next((s.facts[PROBE_FACT] for s in living if PROBE_FACT in s.facts), None),
                "broker": asdict(services.broker()),
                "store": _store(services.reader),
                "quarantine": _quarantine(services),
                "handlers": _handlers(services),
                "alerts": _alerts(services.config),
                **_proofs(services.config),
                "deliveries": _deliveries(services, living),
                "delayed": _delayed(services),
                "disk": _disk(services),
                "streams": {"open": services.streams.open, "most": services.config.max_streams},
                "refusals": {word: services.refusals.totals[word] for word in _REFUSALS},
                services.reader.engine.name: services.reader.engine.version,
            }
        )

    return views


def _restricted(
    services: Services, readiness: Readiness, patterns: tuple[str, ...]
) -> dict[str, object]:
    try:
        hidden = [*_OF_ALL, *services.reader.details()]
        shown: dict[str, Any] = asdict(services.reader.totals(patterns))
        store = {**shown, **dict.fromkeys(hidden)}
    except StoreError:
        store = None
    return {
        "version": services.version,
        "time": timestamps.now(),
        "ready": readiness.ready,
        "reasons": readiness.reasons,
        "processes": [],
        "pulses": [],
        "probe": None,
        "broker": None,
        "store": store,
        "quarantine": None,
        "handlers": None,
        "alerts": None,
        "backup_restorable_at": None,
        "backup_proof": None,
        "canary": None,
        "deliveries": None,
        "delayed": None,
        "disk": None,
        "streams": None,
        "refusals": None,
        services.reader.engine.name: services.reader.engine.version,
    }


def _handlers(services: Services) -> dict[str, object] | None:
    """Return how many messages wait for their handler; None where no topic has one."""
    try:
        backlog = services.handling.backlog()
    except StoreError:
        return None
    if not backlog and not services.config.handlers:
        return None
    return {
        "waiting": sum(each.waiting for each in backlog),
        "retrying": sum(each.retrying for each in backlog),
        "oldest_at": min((each.oldest_at for each in backlog if each.oldest_at), default=None),
    }


def _pulse(sign: Sign) -> dict[str, object]:
    return {
        "process": sign.process,
        "pid": sign.pid,
        "state": sign.state,
        "status": sign.status,
        "seconds_ago": round(sign.seconds_ago, 1),
    }


def _store(reader: Reader) -> dict[str, object] | None:
    try:
        return {**asdict(reader.totals()), **reader.details()}
    except StoreError:
        return None


def _quarantine(services: Services) -> dict[str, object] | None:
    """Return the quarantine's size; what was refused at its door, this process has counted."""
    try:
        totals = asdict(services.dead_letters.quarantine())
    except StoreError:
        return None
    return {
        **totals,
        "max_bytes": services.config.quarantine_bytes,
        "refused": services.door.refused,
    }


def _alerts(config: Config) -> list[dict[str, str]]:
    """Return the alerts that the janitor has raised."""
    return [
        {"alert": each.kind, "subject": each.subject, "text": each.text, "since": each.since}
        for each in alert_book.raised(config)
    ]


def _proofs(config: Config) -> dict[str, object]:
    """Return what the janitor knows of the newest backup's proof, and of the canary."""
    book = proof_book.read(config)
    return {
        "backup_restorable_at": book.restorable_at,
        "backup_proof": book.state(),
        "canary": canary_book.state(config),
    }


def _deliveries(services: Services, living: list[Sign]) -> dict[str, object] | None:
    """Return how many endpoints are how, and what is wrong with the process that delivers."""
    try:
        rows = services.endpoints.all()
    except StoreError:
        return None
    active = [row for row in rows if row.state == ACTIVE]
    return {
        "endpoints": len(rows),
        "active": len(active),
        "failing": sum(row.broken_at is not None for row in active),
        "trouble": deliverer(living) if active else "",
    }


def _delayed(services: Services) -> dict[str, object] | None:
    try:
        return services.delayed.waiting()._asdict()
    except StoreError:
        return None


def _disk(services: Services) -> dict[str, object] | None:
    try:
        state = disk_space.disks(services.config)[0]
    except StoreError:
        return None
    full_at = services.chronicler.full_at()
    return {
        "free_bytes": state.free,
        "total_bytes": state.total,
        "floor_bytes": state.floor,
        "full_at": None if full_at is None else timestamps.timestamp(full_at),
    }
