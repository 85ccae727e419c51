"""Checks of the data folder: its file system, its owner, its free space, its speed."""

import os
import pwd
import stat
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from appliance.doctor.diagnosis import Diagnosis, error, ok, warning
from appliance.machine import disk_space
from appliance.machine.fsync_times import fsync_seconds, percentile

#: Kinds that are served over a network or by a program: they break the shared memory or the locks
#: that the database's write-ahead log needs, or tell of an fsync that did not happen.
_REMOTE: Final = frozenset(
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "smb2",
        "9p",
        "virtiofs",
        "fuse",
        "fuseblk",
        "fakeowner",
        "vboxsf",
        "prl_fs",
        "vmhgfs",
        "afs",
        "ceph",
        "lustre",
        "ncpfs",
        "davfs",
        "coda",
    ]
)
#: Kinds whose content is lost with the machine's power, or with the container.
_PASSING: Final = {
    "tmpfs": "is in memory: all of it is gone when the machine or the container ends",
    "ramfs": "is in memory: all of it is gone when the machine or the container ends",
    "overlay": "is the container's own layer: all of it is gone with the container",
}
_LOCAL_ADVICE: Final = (
    "put the data folder on a local disk (ext4, XFS, btrfs, ZFS); with Docker use a named volume"
)
#: Seconds for which small writes are timed.
_WRITE_SECONDS: Final = 2.0
#: Seconds of a median or 99th percentile that make every commit slow, and of a median that no disk
#: reaches which really writes.
_SLOW_MEDIAN: Final = 0.020
_SLOW_P99: Final = 0.250
_TOO_FAST: Final = 0.000_015


class Mount(NamedTuple):
    """One mounted file system."""

    point: str
    kind: str
    source: str


def mount_of(path: Path, mountinfo: str) -> Mount | None:
    """Return the mount that `path` (absolute, without links) is on; `mountinfo` as proc(5) has it.

    By name and not by device number: btrfs gives each subvolume a number of its own.
    """
    mount: Mount | None = None
    for line in mountinfo.splitlines():
        head, separator, tail = line.partition(" - ")
        fields, more = head.split(), tail.split()
        if not separator or len(fields) < 5 or len(more) < 2:
            continue
        point = _unescaped(fields[4])
        covers = path == Path(point) or Path(point) in path.parents
        # The last of those on one place is the one that shows.
        if covers and (mount is None or len(point) >= len(mount.point)):
            mount = Mount(point, more[0], _unescaped(more[1]))
    return mount


def file_system(folder: Path, mountinfo: str | None = None) -> Diagnosis:
    """Check the kind of file system: the database can't rely on every one."""
    check = "file system"
    place = existing(folder)
    try:
        text = Path("/proc/self/mountinfo").read_text() if mountinfo is None else mountinfo
    except OSError as trouble:
        return warning(check, f"unknown: {trouble.strerror}", _LOCAL_ADVICE)
    mount = mount_of(place.resolve(), text)
    if mount is None:
        return warning(check, f"unknown: no mount holds {place}", _LOCAL_ADVICE)
    shown = f"{mount.kind} (mounted at {mount.point})"
    if mount.kind in _REMOTE or mount.kind.startswith("fuse."):
        shown += ": a network or FUSE file system, which breaks the database's locks"
        return error(check, shown, _LOCAL_ADVICE)
    if mount.kind in _PASSING:
        return warning(check, f"{shown} {_PASSING[mount.kind]}", _LOCAL_ADVICE)
    return ok(check, shown)


def owner(folder: Path, files: Sequence[Path]) -> Diagnosis:
    """Check that this user, and only this user, may read and write."""
    try:
        return _owner(folder, files)
    except OSError as trouble:  # a folder above that may not be entered
        user = os.geteuid()
        return error(
            "folder",
            f"{trouble.filename} can't be reached by {_name(user)}, who runs this: "
            f"{trouble.strerror}",
            f"let {_name(user)} enter the folders above, or name another one (APPLIANCE_DATA)",
        )


def _owner(folder: Path, files: Sequence[Path]) -> Diagnosis:
    check = "folder"
    user = os.geteuid()
    if not folder.exists():
        place = existing(folder)
        if os.access(place, os.W_OK | os.X_OK, effective_ids=True):
            return ok(check, f"{folder} will be made")
        trouble = f"{folder} does not exist, and {_name(user)} can't make it"
        return error(check, trouble, f"mkdir {folder} && chown {user} {folder}")
    if not folder.is_dir():
        return error(check, f"{folder} is not a folder", "set APPLIANCE_DATA to a folder")
    status = folder.stat()
    for path in [folder, *files]:
        needed = os.R_OK | os.W_OK | (os.X_OK if path == folder else 0)
        if not os.access(path, os.F_OK, effective_ids=True) and path != folder:
            continue
        if not os.access(path, needed, effective_ids=True):
            owner = _name(path.stat().st_uid)
            return error(
                check,
                f"{path} belongs to {owner} and can't be written by {_name(user)}, who runs this",
                f"chown -R {user} {folder} (or mount it writable, or run as {owner})",
            )
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        trouble = f"{folder} has mode {mode:o}: other users can reach the files in it"
        return warning(check, trouble, f"chmod 700 {folder}")
    return ok(check, f"{folder} belongs to {_name(status.st_uid)}, mode {mode:o}")


def room(folder: Path, floor: int) -> list[Diagnosis]:
    """Check free bytes and inodes."""
    disk = disk_space.disk(existing(folder), "the data's disk", floor, disk_space.MIN_FREE_INODES)
    shown = f"{disk.free >> 20:,} MiB free of {disk.total >> 20:,} MiB"
    if disk.free < floor:
        space = error("space", f"{shown}; below {floor >> 20:,} MiB nothing is accepted",
                      "free some space, or lower APPLIANCE_MIN_FREE_BYTES")  # fmt: skip
    elif disk.free < 2 * floor:
        space = warning("space", f"{shown}; below {floor >> 20:,} MiB nothing is accepted",
                        "free some space soon, or set APPLIANCE_RETENTION")  # fmt: skip
    else:
        space = ok("space", shown)
    if not disk.inodes:
        return [space, ok("inodes", "not limited")]
    left = f"{disk.free_inodes:,} inodes free of {disk.inodes:,}"
    if disk.free_inodes < disk.inode_floor:
        return [space, error("inodes", left, "delete files: no new one can be made soon")]
    return [space, ok("inodes", left)]


def fsync(folder: Path) -> Diagnosis:
    """Time small writes that are synced one by one, like commits and confirms."""
    check = "fsync"
    place = existing(folder)
    try:
        times = fsync_seconds(place, _WRITE_SECONDS)
    except OSError as trouble:
        return error(check, f"{place}: can't write: {trouble.strerror}", "make it writable")
    median, p99 = statistics.median(times), percentile(times, 0.99)
    shown = f"median {median * 1e3:.2f} ms, 99 % {p99 * 1e3:.2f} ms ({len(times)} writes)"
    if median > _SLOW_MEDIAN or p99 > _SLOW_P99:
        return warning(check, f"{shown}: slow", "each commit and confirm waits for it: use an SSD")
    if median < _TOO_FAST:
        return warning(check, f"{shown}: no disk is that fast, so nothing reaches a disk",
                       "check the file system; a virtual disk must not ignore flushes")  # fmt: skip
    return ok(check, shown)


def existing(folder: Path) -> Path:
    """Return `folder`, or the nearest folder above that is there."""
    while not folder.exists():
        folder = folder.parent
    return folder


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def _unescaped(text: str) -> str:
    """Undo how mountinfo writes a space, a tab, a line's end and a backslash."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
