"""Backups of a PostgreSQL database are its own tools' work: here it is said which to use."""

from pathlib import Path
from typing import BinaryIO, Final, NoReturn

from appliance.errors import BackupElsewhereError
from appliance.store.base import Backup, KeptBackup, Progress
from appliance.store.proving import BackupProof
from appliance.store.rows import Rescued

WORDS: Final = (
    "messages are stored in PostgreSQL, whose own tools make and restore its backups: pg_dump for "
    "a copy that can be moved, pg_basebackup with an archive of its log for one of each moment; "
    "see docs/postgresql.md"
)


class PostgresBackups:
    """Refuses to make backups, in words that say what to use. There are none in the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def media_type(self) -> str:
        """Media type of a backup's bytes."""
        return "application/octet-stream"

    def name(self, *, scheduled: bool = False) -> str:  # noqa: ARG002
        """Raise BackupError."""
        return _refuse()

    def make_folder(self) -> None:
        """Do nothing: there will be no backup in it."""

    def make(self, target: Path, progress: Progress) -> Backup:  # noqa: ARG002
        """Raise BackupError."""
        return _refuse()

    def download(self, progress: Progress) -> BinaryIO:  # noqa: ARG002
        """Raise BackupError."""
        return _refuse()

    def rescue(self, target: Path, progress: Progress) -> Rescued:  # noqa: ARG002
        """Raise BackupError."""
        return _refuse()

    def prove(self, source: Path, progress: Progress) -> BackupProof:  # noqa: ARG002
        """Raise BackupError."""
        return _refuse()

    def clear_proof(self) -> None:
        """Do nothing: no proof is made."""

    def scheduled(self) -> list[tuple[float, Path]]:
        """Return no backup."""
        return []

    def kept(self) -> list[KeptBackup]:
        """Return no backup."""
        return []

    def prune(self, keep: int) -> list[Path]:  # noqa: ARG002
        """Delete nothing."""
        return []


def _refuse() -> NoReturn:
    raise BackupElsewhereError(WORDS)
