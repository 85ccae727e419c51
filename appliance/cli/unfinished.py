"""Unfinished runs of `appliance publish --file`: what is needed to go on where one stopped.

A small file in the user's state folder names the run, and the batch that is being sent: it is
written, and on disk, before the batch goes. The batch's idempotency key follows from both. So a run
that was killed sends that one batch again, cut as it was and with the same key, and the appliance
keeps it once; then it goes on. The file is removed at the end.
"""

import hashlib
import json
import os
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, Self

from appliance.cli.batching import Batch
from appliance.errors import FolderError, InputError
from appliance.machine import files
from appliance.model import timestamps

#: Bytes that are read at once.
_BLOCK: Final = 2**20


@dataclass(frozen=True)
class _Place:
    """Where a run is: all before the byte `offset` is kept; up to `end` is sent next.

    `line` is the number of the line at `offset`. The digests are SHA-256: of the bytes up to
    `offset`, and of those between it and `end`; where `end` is `offset`, nothing was sent since.
    """

    run: str
    started_at: str
    offset: int = 0
    end: int = 0
    line: int = 1
    before: str = hashlib.sha256().hexdigest()
    sent: str = hashlib.sha256().hexdigest()


class UnfinishedRun:
    """One run for a file, a topic and an appliance; what it writes is on disk when a call returns.

    `resumed_at` is the time of the run that it goes on with; None where it begins.
    """

    def __init__(self, state: Path, place: _Place, resumed_at: str | None) -> None:
        self._state = state
        self._place = place
        self._seen = hashlib.sha256()
        self.resumed_at = resumed_at

    @classmethod
    def of(cls, path: Path, descriptor: int, where: str, *, anew: bool) -> Self:
        """Return the run that stopped amid the file at `path`, or a new one.

        `where` names the topic and the appliance. `anew` forgets an earlier run. Raises InputError
        where the file isn't the one of which a part is kept, FolderError where nothing can be
        noted.
        """
        state = _state_path(path, where)
        new = _Place(uuid.uuid4().hex, timestamps.now())
        found = None if anew else _read(state)
        if found is None:
            run = cls(state, new, None)
            run._write()
            return run
        run = cls(state, found, found.started_at)
        run._seen = _digest(descriptor, 0, found.offset)
        is_same = run._seen.hexdigest() == found.before
        sent = _digest(descriptor, found.offset, found.end).hexdigest()
        if is_same and sent == found.sent:
            return run
        if found.offset == 0:  # nothing of the other content is known to be kept
            run = cls(state, new, None)
            run._write()
            return run
        raise InputError(
            f"{path} has changed since the run of {found.started_at}, which stopped at line "
            f"{found.line}; --from-start sends all of it as a new run"
        )

    @property
    def offset(self) -> int:
        """Bytes of the file that are kept."""
        return self._place.offset

    @property
    def line(self) -> int:
        """Number of the line at `offset`."""
        return self._place.line

    @property
    def pending_end(self) -> int:
        """End of the batch that was sent last, and perhaps not kept; `offset` where none was."""
        return self._place.end

    def begin(self, batch: Batch) -> str:
        """Note the batch at `offset`, which is sent next; return its idempotency key."""
        place = self._place
        self._place = replace(
            place, end=place.offset + len(batch.data), sent=hashlib.sha256(batch.data).hexdigest()
        )
        self._write()
        return f"{place.run}-{place.offset}"

    def kept(self, batch: Batch) -> None:
        """Go on behind the batch, which is kept; it is noted with the next one."""
        self._seen.update(batch.data)
        self._place = replace(
            self._place, offset=self._place.end, line=batch.last + 1, before=self._seen.hexdigest()
        )

    def refused(self) -> None:
        """Note that the batch is refused for good, so that it can be mended and cut anew."""
        if self._place.offset:
            self._place = replace(self._place, end=self._place.offset, sent=_Place.sent)
            self._write()
        else:
            self.finish()

    def finish(self) -> None:
        """Forget the run: all of the file is kept, or nothing."""
        self._state.unlink(missing_ok=True)

    def _write(self) -> None:
        try:
            self._state.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.write_private(self._state, json.dumps(asdict(self._place)))
            files.sync(self._state.parent)
        except OSError as error:
            raise FolderError(f"{self._state}: can't be written: {error.strerror}") from error


def _state_path(path: Path, where: str) -> Path:
    home = os.environ.get("XDG_STATE_HOME", "")
    try:
        folder = Path(home) if home.startswith("/") else Path.home() / ".local" / "state"
    except RuntimeError as error:
        raise FolderError("your home folder is not known") from error
    name = hashlib.sha256(f"{path.resolve()}\0{where}".encode(errors="surrogateescape"))
    return folder / "queue-appliance" / f"publish-{name.hexdigest()[:32]}.json"


def _read(state: Path) -> _Place | None:
    try:
        text = state.read_text()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FolderError(f"{state}: can't be read: {error.strerror}") from error
    try:
        place = _Place(**json.loads(text))
        is_sound = 0 <= place.offset <= place.end and place.line > 0
    except (ValueError, TypeError):
        is_sound = False
    if not is_sound:
        raise InputError(
            f"{state} is damaged, so it is not known where the last run stopped; --from-start "
            "sends all of the file as a new run"
        )
    return place


def _digest(descriptor: int, start: int, end: int) -> "hashlib._Hash":
    digest = hashlib.sha256()
    while start < end and (block := os.pread(descriptor, min(_BLOCK, end - start), start)):
        digest.update(block)
        start += len(block)
    return digest
