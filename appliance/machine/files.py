"""Files that are whole or not there, on disk when a call returns, and readable by one user only."""

import contextlib
import os
from pathlib import Path


def sync(path: Path) -> None:
    """Put a file's content, or the names in a folder, on disk. Raises OSError.

    A new file's name, or a rename, is lost in a power cut until its folder is synced.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_private(path: Path, text: str, mode: int = 0o600, encoding: str = "utf-8") -> None:
    """Write `text` to `path`, whole or not at all, in place of the file that is there.

    Raises OSError.
    """
    draft = path.with_name(f".{path.name}.new")
    _write_draft(draft, text, mode, encoding)
    draft.replace(path)


def write_private_once(path: Path, text: str) -> bool:
    """Write `text` to `path` unless the file is there; whether this call was the one to make it.

    Several processes may try at once: one of them makes the file, whole. Raises OSError.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    _write_draft(draft, text, 0o600, "utf-8")
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def _write_draft(draft: Path, text: str, mode: int, encoding: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        draft.unlink()
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w", encoding=encoding) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def give_to_owner_of(folder: Path, target: Path | int) -> None:
    """Give a file that root made to the owner of `folder`; for any other user nothing is done.

    An administrator's command must not leave files behind that the service can't open. Raises
    OSError.
    """
    if os.geteuid() == 0:
        owner = folder.stat()
        os.chown(target, owner.st_uid, owner.st_gid)
