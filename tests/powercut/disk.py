"""A disk whose state at any instant can be had: what is on it when the power fails.

    copies/         btrfs on a loop device: a copy of a file on it shares the blocks and takes
      disk.img        milliseconds, however large the file is
    /               ext4 on a second loop device, which is `disk.img`, opened with direct I/O

Direct I/O is the point: the device holds what the file system has written to it and nothing of
what is still in memory, as a disk does. So a copy of `disk.img` is the disk at that instant, and
to mount the copy replays the journal as the first start after a power cut does.

Needs root, loop devices and btrfs-progs, and says so where one of them is missing.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from appliance.store.sqlite import wal_index

#: ioctl: let one file share the blocks of another, all at once.
_FICLONE = 0x40049409

#: Bytes; nothing is taken from the host's disk until it is written.
DISK_BYTES = 3 * 2**30
COPIES_BYTES = 40 * 2**30

_COMMANDS = {
    "losetup": "mount",
    "mount": "mount",
    "umount": "mount",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.ext4": "e2fsprogs",
}


def check_host() -> None:
    """Fail with words where the host can't do this."""
    missing = sorted({package for name, package in _COMMANDS.items() if not shutil.which(name)})
    assert not missing, f"power cuts need these Debian packages: {' '.join(missing)}"
    assert os.geteuid() == 0, "power cuts need root: they mount file systems on loop devices"
    assert Path("/dev/loop-control").exists(), "power cuts need loop devices (modprobe loop)"


class Disk:
    """An ext4 file system at `files`, below `folder`; ends with `close`."""

    def __init__(self, folder: Path) -> None:
        check_host()
        self._folder = folder
        self._copies = folder / "copies"
        self._image = self._copies / "disk.img"
        self._device = ""
        self.files = folder / "files"
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def _make(self) -> None:
        for path in (self._copies, self.files):
            path.mkdir()
        below = self._folder / "copies.img"
        _sparse(below, COPIES_BYTES)
        run("mkfs.btrfs", "--quiet", str(below))
        run("mount", "-o", "loop,noatime", str(below), str(self._copies))
        _sparse(self._image, DISK_BYTES)
        options = ("--direct-io=on", "--find", "--show", str(self._image))
        self._device = run("losetup", *options).strip()
        direct = run("losetup", "--noheadings", "--output", "DIO", self._device).strip()
        assert direct == "1", f"{self._device} does no direct I/O: copies would hold the cache too"
        run("mkfs.ext4", "-q", self._device)
        run("mount", "-o", "noatime", self._device, str(self.files))

    def cut(self, name: str) -> Path:
        """Return a copy of the disk as it is now."""
        path = self._copies / f"{name}.img"
        with self._image.open("rb") as now, path.open("xb") as copy:
            fcntl.ioctl(copy.fileno(), _FICLONE, now.fileno())
        return path

    def off(self) -> None:
        """Take the running disk away; whoever used it has ended, and so has this process."""
        wal_index.release()
        unmount(self.files)

    @contextlib.contextmanager
    def after(self, cut: Path) -> Iterator[None]:
        """Put a copy in the place of the disk, which is off, and take it away again.

        In its place, since after a power cut nothing else about a machine is another.
        """
        run("mount", "-o", "loop,noatime", str(cut), str(self.files))
        try:
            yield
        finally:
            wal_index.release()
            unmount(self.files)
            cut.unlink()

    def close(self) -> None:
        """Take everything down again, as far as it was made."""
        wal_index.release()
        unmount(self.files)
        if self._device:
            run("losetup", "--detach", self._device)
        unmount(self._copies)
        (self._folder / "copies.img").unlink(missing_ok=True)


def unmount(where: Path) -> None:
    """Unmount; what was killed a moment ago may hold it a little longer."""
    end = time.monotonic() + 30
    while os.path.ismount(where):
        done = subprocess.run(["umount", str(where)], capture_output=True, text=True, check=False)
        if done.returncode and time.monotonic() > end:
            subprocess.run(["umount", "--lazy", str(where)], check=False)
            raise AssertionError(f"{where} is in use still: {done.stderr}")
        time.sleep(0.05 if done.returncode else 0)


def run(*command: str) -> str:
    """Run a command and return its output; an AssertionError says what went wrong."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"
    return done.stdout


def _sparse(path: Path, size: int) -> None:
    with path.open("xb") as file:
        file.truncate(size)
