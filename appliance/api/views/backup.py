"""A copy of the database, to keep elsewhere."""

import os
import threading
from collections.abc import Iterator
from typing import BinaryIO, Final

from flask import Blueprint, Response, request

from appliance.api.views import parameters
from appliance.config import Config
from appliance.store.sqlite import backup

#: The media type of a SQLite database, as IANA has it.
_SQLITE: Final = "application/vnd.sqlite3"
#: Bytes of one piece: each is a hop between threads.
_PIECE: Final = 2**20


def blueprint(config: Config, stopping: threading.Event) -> Blueprint:
    """Serve /v1/backup; a copy that is being made is given up when `stopping` is set."""
    views = Blueprint("backup", __name__)

    @views.get("/v1/backup")
    def send_backup() -> Response:
        parameters.parameters(request.args.to_dict(flat=False), ())
        if request.method == "HEAD":  # asks what would come: no reason to make it
            return _answer(iter(()), None)
        backup.make_folder(config.backup_folder, config.database)
        copy = backup.download(
            config.database,
            config.backup_folder,
            config.min_free_bytes,
            lambda _what, _done: not stopping.is_set(),
        )
        answer = _answer(_pieces(copy), os.fstat(copy.fileno()).st_size)
        answer.call_on_close(copy.close)
        return answer

    return views


def _answer(pieces: Iterator[bytes], length: int | None) -> Response:
    answer = Response(pieces, content_type=_SQLITE)
    answer.headers["Content-Disposition"] = f'attachment; filename="{backup.name()}"'
    if length is not None:
        answer.headers["Content-Length"] = str(length)
    return answer


def _pieces(copy: BinaryIO) -> Iterator[bytes]:
    while piece := copy.read(_PIECE):
        yield piece
