"""The proof of a backup: its outcome, as every engine of the store returns it."""

from dataclasses import dataclass, field


@dataclass
class BackupProof:
    """The outcome of restoring a backup beside the database; its fields are the command's JSON.

    `compared` counts the messages of the present database that the backup must have, each of which
    was looked for in it; it is None where there is no present database, or it can't be read.
    `faults` are sentences: the backup is proven where there is none.
    """

    backup: str
    messages: int = 0
    dead_letters: int = 0
    bytes: int = 0
    compared: int | None = None
    sources: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_proven(self) -> bool:
        """Whether the backup can be restored, and has everything that it must have."""
        return not self.faults
