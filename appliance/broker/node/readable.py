"""Finds files of the node that the disk fails to read, before the node starts.

RabbitMQ takes a file that it can't read for one that is damaged or not there, and a node that fails
at each of several starts is given up, with the whole appliance. A disk that is away for a moment
(a cable, a path of a storage network, a host that is busy) must cost no more than that moment.
"""

import errno
import os
from pathlib import Path
from typing import Final

#: What the kernel says when the disk fails to give what is on it. Everything else, such as a
#: permission, is not the disk's, and does not go away.
_OF_DISK: Final = frozenset({errno.EIO, errno.EBADMSG, errno.EUCLEAN, errno.EREMOTEIO})
_PIECE: Final = 2**20


def find_unreadable(folder: Path) -> str:
    """Read every file below `folder`; return in words which one the disk fails to give, or ''.

    What can't be read for another reason is left to whoever needs it.
    """
    piece = bytearray(_PIECE)
    waiting = [str(folder)]
    while waiting:
        path = waiting.pop()
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    path = entry.path
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(path)
                    elif entry.is_file(follow_symlinks=False):
                        _read(path, piece)
        except OSError as error:
            if error.errno in _OF_DISK:
                return f"{path} can't be read ({error.strerror})"
    return ""


def _read(path: str, piece: bytearray) -> None:
    """Read a file to its end; one that is gone, or is another user's, is no matter."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (FileNotFoundError, PermissionError):
        return
    try:
        while os.readv(descriptor, [piece]):
            pass
    finally:
        os.close(descriptor)
