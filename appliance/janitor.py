"""The janitor: keeps the database's files small."""

import signal
import threading
from pathlib import Path
from typing import Any, Final

import structlog

from appliance.config import Config
from appliance.errors import StoreError
from appliance.store import upkeep

#: Seconds between two looks at the WAL.
_INTERVAL: Final = 30.0
#: Bytes of WAL that are left alone: a commit writes a few pages, and cutting the file each time
#: would cost more than it saves.
_WAL_SMALL: Final = 4 * 2**20

_log: Any = structlog.get_logger(__name__)


def run(config: Config) -> None:
    """Look after the database until SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    told = False
    while not stop.wait(_INTERVAL):
        try:
            told = _cut_wal(config.database, told)
        except StoreError as error:
            if not told:
                _log.warning("can't checkpoint, trying again", error=str(error))
            told = True


def _cut_wal(database: Path, told: bool) -> bool:
    """Checkpoint a WAL that has grown; return whether its growth is a known trouble."""
    wal = database.with_name(database.name + "-wal")
    if not wal.exists() or wal.stat().st_size <= _WAL_SMALL:
        return False
    result = upkeep.checkpoint(database)
    if not result.busy:
        _log.debug("checkpointed", pages=result.moved_pages)
    elif not told:
        _log.info("a reader or writer is in the way of a checkpoint", pages=result.wal_pages)
    return result.busy
