"""A copy of the database, to be kept elsewhere."""

import os
from collections.abc import Iterator
from typing import BinaryIO, Final

import structlog
from flask import Blueprint, Response, request

from appliance.api.services import Services
from appliance.api.views import parameters
from appliance.api.views.actors import actor
from appliance.errors import StoreError
from appliance.store.access_rows import Deed
from appliance.store.base import Access, Backups

#: Bytes of one piece; each piece costs a hop between threads.
_PIECE: Final = 2**20

_log = structlog.get_logger(__name__)


def blueprint(services: Services) -> Blueprint:
    """Serve /v1/backup; a copy in the making is given up when the process stops."""
    views, backups = Blueprint("backup", __name__), services.backup

    @views.get("/v1/backup")
    def send_backup() -> Response:
        parameters.read(request.args.to_dict(flat=False), ())
        if request.method == "HEAD":  # nothing is sent, so no copy is made
            return _answer(backups, iter(()), None)
        note(services.access, Deed(actor(), "backup-download", backups.name()))
        copy = backups.download(lambda _step, _share: not services.stopping.is_set())
        answer = _answer(backups, pieces(copy), os.fstat(copy.fileno()).st_size)
        answer.call_on_close(copy.close)
        return answer

    return views


def note(access: Access, deed: Deed) -> None:
    """Add the entry; where that can't be done, the log has it.

    Who needs a copy because the disk is full, or can't be written any more, gets it.
    """
    try:
        access.record(deed)
    except StoreError as error:
        by, action, target, _ = deed
        _log.warning(
            "audit entry not written",
            who=by.name,
            address=by.address,
            action=action,
            target=target,
            error=str(error),
        )


def _answer(backups: Backups, pieces: Iterator[bytes], length: int | None) -> Response:
    answer = Response(pieces, content_type=backups.media_type)
    answer.headers["Content-Disposition"] = f'attachment; filename="{backups.name()}"'
    if length is not None:
        answer.headers["Content-Length"] = str(length)
    return answer


def pieces(copy: BinaryIO) -> Iterator[bytes]:
    """Yield a file's bytes, piece by piece."""
    while piece := copy.read(_PIECE):
        yield piece
