"""The proof book: which backup was proven last, and how the last proof ended; one file."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from appliance.config import Config
from appliance.errors import BackupRoomError
from appliance.machine import files
from appliance.model import timestamps
from appliance.store.proving import BackupProof

#: How a proof ended.
PROVEN: Final = "proven"
FAILED: Final = "failed"
NOT_ATTEMPTED: Final = "not attempted"

_MOST_BYTES: Final = 2**20

_log: Any = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ProvenBackup:
    """The newest backup that was proven; times as the API writes them."""

    backup: str
    made_at: str
    proven_at: str
    messages: int


@dataclass(frozen=True)
class ProofAttempt:
    """How the last proof ended; `reasons` are its faults, or why it was not attempted."""

    backup: str
    at: str
    outcome: str
    reasons: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ProofBook:
    """What is known; either is None where there was none yet."""

    proven: ProvenBackup | None = None
    last: ProofAttempt | None = None

    @property
    def restorable_at(self) -> str | None:
        """When the newest proven backup was proven."""
        return self.proven.proven_at if self.proven else None

    def state(self) -> dict[str, Any] | None:
        """Return it as JSON has it; None where nothing is known."""
        return asdict(self) if self.proven or self.last else None


def read(config: Config) -> ProofBook:
    """Return the book; any process may ask."""
    try:
        with _path(config).open("rb") as file:
            content = json.loads(file.read(_MOST_BYTES))
        proven, last = content["proven"], content["last"]
        return ProofBook(
            ProvenBackup(**proven) if proven else None, ProofAttempt(**last) if last else None
        )
    except (OSError, ValueError, LookupError, TypeError):
        return ProofBook()


def enter(config: Config, proof: BackupProof, made_at: float) -> ProofBook:
    """Take a proof's outcome into the book; `made_at` is when its backup was made (Unix time)."""
    before, now = read(config), timestamps.now()
    outcome = PROVEN if proof.is_proven else FAILED
    attempt = ProofAttempt(proof.backup, now, outcome, proof.faults)
    proven = before.proven
    if proof.is_proven:
        proven = ProvenBackup(proof.backup, timestamps.timestamp(made_at), now, proof.messages)
    elif proven is not None and proven.backup == proof.backup:
        proven = None  # it was whole then, and is damaged now
    return _keep(config, ProofBook(proven, attempt))


def enter_lack_of_room(config: Config, backup: str, error: BackupRoomError) -> ProofBook:
    """Note that a proof was not attempted, or given up, for want of room."""
    attempt = ProofAttempt(backup, timestamps.now(), NOT_ATTEMPTED, [str(error)])
    return _keep(config, ProofBook(read(config).proven, attempt))


def trouble(config: Config) -> str:
    """Return what is wrong with the newest backup, and what to do; empty where nothing is known.

    A backup that is gone is no trouble any more.
    """
    last = read(config).last
    if last is None or last.outcome != FAILED or not (config.backup_folder / last.backup).exists():
        return ""
    return (
        f"the backup {last.backup} can't be relied on: {last.reasons[0]}; make another one now "
        f"(appliance backup), and look at its disk; appliance prove {last.backup} says more"
    )


def _keep(config: Config, book: ProofBook) -> ProofBook:
    path = _path(config)
    try:
        files.write_private(path, json.dumps(asdict(book)) + "\n")
        files.give_to_owner_of(config.data, path)
    except OSError as error:
        _log.warning("proof of a backup not kept", error=str(error))
    return book


def _path(config: Config) -> Path:
    return config.data / "backup-proof.json"
