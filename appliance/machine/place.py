"""Where a data folder lies, and whose broker's files are in it: copies and mix-ups are seen.

A copy that was made while an appliance used the folder has files of different moments. And two
appliances that have the same messages in their queues store them twice, once each. So the folder
notes its own place (the number of a file in its file system, which every copy changes), and whether
it is in use. The folder and the broker's files below it have the same name, a random one.
"""

import contextlib
import errno
import json
import os
import secrets
from enum import Enum
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog

from appliance.config import Config
from appliance.errors import FolderError
from appliance.machine import files

_NAME: Final = "identity"
_PLACE: Final = "place"
#: Characters of a name, and bytes of the note that are read.
_NAME_LENGTH: Final = 22
_NOTE_BYTES: Final = 1000

_log: Any = structlog.get_logger(__name__)


class Move(Enum):
    """What became of the folder since its place was noted."""

    NONE = "it is where it was, or new"
    MOVED = "it was moved or copied while nothing used it"
    COPIED_IN_USE = "it was copied while it was in use"


def look(folder: Path) -> Move:
    """Tell whether this folder is a copy. Raises OSError where that can't be read."""
    note = _read(folder)
    if not note or note.here:
        return Move.NONE
    return Move.COPIED_IN_USE if note.in_use else Move.MOVED


class _Note(NamedTuple):
    """The file that it was read from is the one it was written into; the folder was in use."""

    here: bool
    in_use: bool


class Mismatch(NamedTuple):
    """Why nothing must be started on a data folder, and what to do."""

    found: str
    advice: str


def problem(config: Config) -> Mismatch | None:
    """Return why nothing must be started on this data folder; None where all is well."""
    try:
        if look(config.data) is Move.COPIED_IN_USE:
            return Mismatch(
                f"{config.data} is a copy of a data folder that was in use: its files are of "
                "different moments, and what waited in the queue would be stored twice",
                "stop the appliance of the first folder and copy it again, or restore a backup; "
                f"if this copy is all there is, remove {config.data / _PLACE} and start",
            )
        own, brokers = _text(config.data / _NAME), _text(config.broker_home / _NAME)
    except OSError as error:
        return Mismatch(f"{error.filename}: {error.strerror}", "let this user read it")
    if own and brokers and own != brokers:
        return Mismatch(
            f"{config.broker_home} has the broker's files of another data folder: what waits in "
            "them is not this appliance's",
            "put back the folder `broker` that was here; or, to store here what waits in that one, "
            f"remove {config.broker_home / _NAME}",
        )
    return None


def enter(folder: Path) -> None:
    """Note that the folder is in use, and where it is. Raises FolderError."""
    try:
        move = look(folder)
        if move is Move.COPIED_IN_USE:
            return  # a command only looks at it; `problem` keeps everything else away
        if move is Move.MOVED:
            _log.warning(
                "data folder moved or copied",
                path=str(folder),
                advice="the one that it was copied from must not run: messages that waited in its "
                "queue would be stored by both",
            )
        note = _read(folder)
        if not note or not note.here or not note.in_use:
            _write(folder, in_use=True)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):  # those must not keep it from starting
            raise FolderError(
                f"APPLIANCE_DATA: {folder / _PLACE} can't be written ({error.strerror})"
            ) from error
        _log.warning("place not noted", path=str(folder / _PLACE), error=str(error.strerror))


def leave(folder: Path) -> None:
    """Note that nothing uses the folder any more: it may be copied. A full disk is no matter."""
    with contextlib.suppress(OSError):
        if look(folder) is Move.NONE:
            _write(folder, in_use=False)


def name(config: Config) -> None:
    """Give the data folder and the broker's files one name where one of them has none.

    Raises OSError.
    """
    own, brokers = config.data / _NAME, config.broker_home / _NAME
    if not _text(own):
        known = _text(brokers) or secrets.token_urlsafe(16)
        files.write_private_once(own, f"{known}\n")
    if not _text(brokers):
        files.write_private_once(brokers, f"{_text(own)}\n")


def _text(path: Path) -> str:
    with contextlib.suppress(FileNotFoundError), path.open(errors="replace") as file:
        return file.read(_NAME_LENGTH + 1).strip()
    return ""


def _read(folder: Path) -> _Note | None:
    """Return the note; None where there is none, or none that can be understood."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        with (folder / _PLACE).open(errors="replace") as file:
            # Of the file that is read: several processes that start put theirs in place in turn.
            number = os.fstat(file.fileno()).st_ino
            said = json.loads(file.read(_NOTE_BYTES))
        if (
            isinstance(said, dict)
            and isinstance(said.get("inode"), int)
            and isinstance(said.get("in_use"), bool)
        ):
            return _Note(said["inode"] == number, said["in_use"])
    return None


def _write(folder: Path, *, in_use: bool) -> None:
    """Write the note into a new file, whose number it holds, and put that in place."""
    path = folder / _PLACE
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        note = {"inode": os.fstat(descriptor).st_ino, "in_use": in_use}
        os.write(descriptor, f"{json.dumps(note)}\n".encode())
        files.give_to_owner_of(folder, descriptor)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.replace(path)
    files.sync(folder)
