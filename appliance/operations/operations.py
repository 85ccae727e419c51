"""The operations that an administrator has, put together by the command line."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from appliance.config.shown import ShownSetting
from appliance.operations.backup_desk import BackupDesk
from appliance.operations.chore import Chore
from appliance.supervision.process_logs import ProcessLog

#: Seconds for which a request waits for the doctor: it times the disk for two of them, and looks
#: at the database for up to a minute.
DOCTOR_SECONDS: Final = 70.0


@dataclass(frozen=True)
class Operations:
    """One for each API process. Every part can be used in any thread."""

    #: the checks of `appliance doctor`: `ok` and `findings`
    doctor: Chore
    #: those of `appliance verify`, the comparison of every index entry left out
    verify: Chore
    backups: BackupDesk
    #: Returns every setting in force, secrets masked.
    settings: Callable[[], Sequence[ShownSetting]]
    #: Returns the last lines of a process's log: at most so many, of this level or worse.
    log: Callable[[str, int, str], ProcessLog | None]
    #: Has a process end, so that its supervisor starts it again; False where there is none of this
    #: name. Raises RestartError.
    restart: Callable[[str], bool]
