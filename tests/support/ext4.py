"""A disk of its own for a test: ext4 in a file, which the kernel can be told to take for broken."""

import subprocess
from pathlib import Path

from harness import wait_until


class Ext4Disk:
    """Mounted at `path`; `break_down` makes it read-only, as the kernel does after an error."""

    def __init__(self, image: Path, path: Path, mebibytes: int = 700) -> None:
        self.path = path
        self._image = image
        path.mkdir(mode=0o700)
        with image.open("wb") as file:
            file.truncate(mebibytes * 2**20)
        subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
        self.mount()

    def mount(self) -> None:
        options = "loop,errors=remount-ro"
        subprocess.run(["mount", "-o", options, self._image, self.path], check=True)
        self.path.chmod(0o700)

    def break_down(self) -> None:
        """Have the kernel find an error: from now on nothing can be written."""
        found = subprocess.run(
            ["findmnt", "-n", "-o", "SOURCE", self.path], capture_output=True, text=True, check=True
        )
        device = Path(found.stdout.strip()).name
        Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("1")

    def mend(self) -> None:
        """Unmount, check and mount it; no process may have a file open on it."""
        self.unmount()
        done = subprocess.run(["e2fsck", "-p", "-f", self._image], capture_output=True, check=False)
        assert done.returncode in (0, 1), done.stdout
        self.mount()

    def unmount(self) -> None:
        def is_unmounted() -> bool:
            done = subprocess.run(["umount", self.path], capture_output=True, check=False)
            return not done.returncode

        wait_until(is_unmounted, "no process uses the disk", 20)

    def discard(self) -> None:
        """Unmount it, whatever uses it."""
        subprocess.run(["umount", "--lazy", self.path], capture_output=True, check=False)
