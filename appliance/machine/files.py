"""Files that are whole or not there, and on disk when a call returns; private ones among them."""

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def sync(path: Path) -> None:
    """Put a file's content, or the names in a folder, on disk. Raises OSError.

    A new file's name, or a rename, is lost in a power cut until its folder is synced.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """Lend a file that takes the place of `path` when the block ends: whole, or not at all.

    A `path` that is there and no regular file (a pipe, a terminal) is written to as it is. Raises
    OSError.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    target = path.resolve()  # the file that a link names, not the link
    descriptor, name = tempfile.mkstemp(".part", f".{target.name[:200]}.", target.parent)
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fchmod(descriptor, _mode(target))
            os.fsync(descriptor)
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync(target.parent)


def _mode(path: Path) -> int:
    """Return the mode that a file has, or that any program's new file gets."""
    with contextlib.suppress(FileNotFoundError):
        return stat.S_IMODE(path.stat().st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


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
