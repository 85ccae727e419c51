"""The backup desk lists the backups that are kept, and makes one in the background."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final

from appliance.errors import BackupError
from appliance.operations.chore import Chore, Report
from appliance.store.base import Backups, KeptBackup

#: A file's name and nothing else: no folder above.
_NAME: Final = re.compile(r"[a-z]{1,20}-[0-9TZ]{16}\.db")


class BackupDesk:
    """Used by any thread.

    `stopping` says whether the process is about to end; the API's processes share `chores`.
    """

    def __init__(self, backups: Backups, stopping: Callable[[], bool], chores: Path) -> None:
        self._backups = backups
        self._stopping = stopping
        #: makes a backup in the folder for backups
        self.making: Final = Chore("backup", self._make, chores)

    @property
    def folder(self) -> Path:
        """The folder for backups."""
        return self._backups.folder

    @property
    def media_type(self) -> str:
        """Media type of a backup's bytes."""
        return self._backups.media_type

    def list_backups(self) -> list[KeptBackup]:
        """Return the backups in the folder, the newest first. Raises BackupError."""
        return self._backups.kept()

    def open(self, name: str) -> BinaryIO | None:
        """Open a backup of the folder; None where there is none of this name."""
        if not _NAME.fullmatch(name) or all(each.name != name for each in self.list_backups()):
            return None
        try:
            return (self.folder / name).open("rb")
        except FileNotFoundError:  # a newer one has taken its place
            return None
        except OSError as error:
            raise BackupError(f"{name} can't be read: {error.strerror}") from error

    def _make(self, report: Report) -> dict[str, Any]:
        def progress(step: str, share: float | None) -> bool:
            report(step, share)
            return not self._stopping()

        self._backups.make_folder()
        made = self._backups.make(self.folder / self._backups.name(), progress)
        return {
            "name": made.path.name,
            "bytes": made.bytes,
            "messages": made.messages,
            "seconds": round(made.seconds, 2),
        }
