"""The backups that are kept: list, make and download them. The gate lets administrators in only."""

import os
from typing import Any, Final

from flask import Blueprint, Response, request

from appliance.api.http import problems
from appliance.api.services import Services
from appliance.api.views import pages, parameters
from appliance.api.views.actors import actor
from appliance.api.views.answers import json_answer, problem_answer
from appliance.api.views.backup import note, pieces
from appliance.model import timestamps
from appliance.store.access_rows import Deed
from appliance.store.base import KeptBackup

#: Seconds for which a request waits for its backup; a larger one is made meanwhile.
_PATIENCE: Final = 5.0


def blueprint(services: Services) -> Blueprint:
    """Serve /v1/backups and the files below it."""
    views, desk = Blueprint("backups", __name__), services.operations.backups

    @views.get("/v1/backups")
    def list_backups() -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        config = services.config
        return json_answer(
            {
                "backups": [shown(backup) for backup in desk.list_backups()],
                "making": desk.making.state(),
                "every_seconds": config.backup_every or None,
                "keep": config.backup_keep,
            }
        )

    @views.post("/v1/backups")
    def make_backup() -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        if begun := desk.making.begin(actor().name):
            note(services.access, Deed(actor(), "backup-make", "database"))
        if not desk.making.wait(_PATIENCE):
            answer = json_answer({"begun": begun, **desk.making.state()}, 202)
            answer.headers["Location"] = pages.address("/v1/backups")
            return answer
        desk.making.fail()
        last = desk.making.last
        made = last.result if last is not None else None
        answer = json_answer(made, 201)
        if made is not None:
            answer.headers["Location"] = pages.address(f"/v1/backups/{made['name']}")
        return answer

    @views.get("/v1/backups/<name>")
    def send_kept_backup(name: str) -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        file = desk.open(name)
        if file is None:
            return problem_answer(problems.not_found("there is no backup with this name"))
        answer = Response(pieces(file), content_type=desk.media_type)
        answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
        answer.headers["Content-Length"] = str(os.fstat(file.fileno()).st_size)
        answer.call_on_close(file.close)
        if request.method != "HEAD":
            note(services.access, Deed(actor(), "backup-download", name))
        return answer

    return views


def shown(backup: KeptBackup) -> dict[str, Any]:
    """Return a backup as the API shows it; each was checked before it got its name."""
    return {
        "name": backup.name,
        "bytes": backup.bytes,
        "made_at": timestamps.timestamp(backup.made_at),
        "scheduled": backup.scheduled,
        "checked": True,
    }
