"""What files of ours need that SQLite doesn't do for them."""

import os
from pathlib import Path


def folder_synced(folder: Path) -> None:
    """Put the names in `folder` on disk: a rename is lost in a power cut until then."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def like_folder(made: Path | int, folder: Path) -> None:
    """Give what root made to whoever owns `folder`; for any other user nothing is done.

    An administrator's command must not leave files behind that the service can't open.
    """
    if os.geteuid() == 0:
        owner = folder.stat()
        os.chown(made, owner.st_uid, owner.st_gid)
