"""Small file systems in memory, mounted where a test wants a disk that can be filled."""

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest


class SmallDisk:
    """A tmpfs at `path`; `fill` takes all that is left, as another program might."""

    def __init__(self, path: Path, mebibytes: int = 400, files: int = 5000) -> None:
        if os.geteuid() != 0:
            pytest.fail("a disk that can be filled has to be mounted, which needs root")
        self.path = path
        self._filler = path / "filler"
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        options = f"size={mebibytes}m,nr_inodes={files},mode=700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tests", path], check=True)

    @property
    def free_bytes(self) -> int:
        return shutil.disk_usage(self.path).free

    def fill(self, leave: int = 0) -> None:
        """Take every byte but `leave`."""
        with self._filler.open("ab", 0) as file, contextlib.suppress(OSError):
            while (more := self.free_bytes - leave) > 0:
                file.write(bytes(min(more, 2**20)))

    def fill_inodes(self) -> None:
        """Make files until no more can be made."""
        folder = self.path / "files"
        folder.mkdir()
        with contextlib.suppress(OSError):
            for number in range(10**6):
                (folder / str(number)).touch()

    def make_room(self) -> None:
        """Give back what was taken."""
        self._filler.unlink(missing_ok=True)
        shutil.rmtree(self.path / "files", ignore_errors=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", self.path], check=True)
