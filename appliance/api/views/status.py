"""The appliance at a glance: processes, broker, queue, store, disk."""

from dataclasses import asdict

from flask import Blueprint, Response, request

from appliance.api.services import Services
from appliance.api.views import parameters
from appliance.api.views.answers import json_answer
from appliance.broker.base import PROBE_FACT
from appliance.config import Config
from appliance.errors import StoreError
from appliance.machine import disk_space
from appliance.machine.signs import Sign, signs
from appliance.model import timestamps
from appliance.store.base import Reader


def blueprint(services: Services) -> Blueprint:
    """Serve /v1/status; a part that can't be read is null, and the others are still there."""
    views = Blueprint("status", __name__)

    @views.get("/v1/status")
    def show_status() -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        readiness, living = services.readiness(), signs(services.config)
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
                "disk": _disk(services.config),
                services.reader.engine.name: services.reader.engine.version,
            }
        )

    return views


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


def _disk(config: Config) -> dict[str, int] | None:
    try:
        state = disk_space.disks(config)[0]
    except StoreError:
        return None
    return {"free_bytes": state.free, "total_bytes": state.total, "floor_bytes": state.floor}
