"""The bell: whoever stores messages tells the processes that wait for them, by a datagram.

Each process that waits has a socket in the same folder, for as long as somebody waits; where there
is none, nothing is sent. A datagram may be lost: its reader is slow, or was not there yet. So
whoever waits also looks by itself, now and then.

Only the appliance's own user reaches the sockets. A datagram of anybody else could claim that a
message is stored.
"""

import contextlib
import errno
import os
import re
import secrets
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

#: A datagram's first byte: whether its names are all that was stored, or there is more.
_ALL: Final = b"="
_MORE: Final = b"+"
#: Bytes of a datagram; what has more says only that there is more. The kernel takes 200 kB.
_MOST_BYTES: Final = 32 * 1024
#: Names of the sockets' files; no others are touched.
_NAME: Final = re.compile(r"[0-9a-f]{16}")
#: Datagrams that are read in one turn of the event loop.
_MOST_READ: Final = 64
#: Characters of a path that a Unix socket can have; a longer one is reached by its open folder.
_PATH_LENGTH: Final = 100
#: A folder that was changed so lately may have been changed since: its time is no finer.
_FRESH_NS: Final = 50_000_000


class Bell:
    """Tells those who wait in `folder`; used by one thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changed_ns = -1
        self._names: list[str] = []
        self._late: set[str] = set()  # those who missed a datagram
        self._descriptor: int | None = None
        self._socket: socket.socket | None = None

    @property
    def is_awaited(self) -> bool:
        """Whether anybody waits, or did some seconds ago; costs a look at the folder's time."""
        try:
            changed_ns = os.stat(self._folder).st_mtime_ns  # noqa: PTH116  # half the time
            if changed_ns != self._changed_ns:
                is_fresh = abs(time.time_ns() - changed_ns) < _FRESH_NS
                self._reopen()
                self._names = _sockets(self._folder)
                self._changed_ns = -1 if is_fresh else changed_ns
        except OSError:
            self._names, self._changed_ns = [], -1
        return bool(self._names)

    def ring(self, names: Sequence[str] | None) -> None:
        """Tell everybody who waits that these messages are stored; None: some, no matter which."""
        text = "\n".join(names).encode() if names is not None else b""
        data = _MORE if names is None or len(text) > _MOST_BYTES else _ALL + text
        for name in list(self._names):
            try:
                self._send(_MORE if name in self._late else data, name)
                self._late.discard(name)
            except BlockingIOError:
                self._late.add(name)
            except OSError as error:
                self._names.remove(name)
                self._late.discard(name)
                if error.errno == errno.ECONNREFUSED:  # it was killed
                    with contextlib.suppress(OSError):
                        (self._folder / name).unlink()

    def close(self) -> None:
        """Let go of the socket and the folder."""
        if self._socket is not None:
            self._socket.close()
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._socket = self._descriptor = None

    def _send(self, data: bytes, name: str) -> None:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        assert self._descriptor is not None  # noqa: S101  # a name was read from the folder
        self._socket.sendto(data, _address(self._folder, name, self._descriptor))

    def _reopen(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self._descriptor = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


class BellListener:
    """The socket of a process that waits; its file is there until `close`.

    Making one raises OSError where there can be none.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / secrets.token_hex(8)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _remove_dead(folder, descriptor)
            os.fchmod(self._socket.fileno(), 0o600)  # before it has a name, which is made so
            self._socket.bind(_address(folder, self._path.name, descriptor))
        except OSError:
            self._socket.close()
            raise
        finally:
            os.close(descriptor)

    def fileno(self) -> int:
        """Return the socket's descriptor, to wait for it."""
        return self._socket.fileno()

    def read(self) -> tuple[list[str], bool]:
        """Return the names of what was stored, and whether more was: what has come so far."""
        names: list[str] = []
        more = False
        for _ in range(_MOST_READ):
            try:
                data = self._socket.recv(len(_ALL) + _MOST_BYTES)
            except OSError:
                break
            more = more or data[:1] != _ALL
            if len(data) > 1:
                names += data[1:].decode("ascii", "replace").split("\n")
        return names, more

    def close(self) -> None:
        """Take the socket away."""
        with contextlib.suppress(OSError):
            self._path.unlink()
        self._socket.close()


def _sockets(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if _NAME.fullmatch(path.name)]


def _remove_dead(folder: Path, descriptor: int) -> None:
    """Take away the sockets of processes that were killed."""
    for name in _sockets(folder):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as trial:
            try:
                trial.connect(_address(folder, name, descriptor))
            except ConnectionRefusedError:
                (folder / name).unlink(missing_ok=True)
            except OSError:
                continue


def _address(folder: Path, name: str, descriptor: int) -> str:
    """Return a socket's path, or one by way of the open folder where that is too long."""
    path = str(folder / name)
    short = f"/proc/self/fd/{descriptor}/{name}"
    return path if len(os.fsencode(path)) <= _PATH_LENGTH else short
