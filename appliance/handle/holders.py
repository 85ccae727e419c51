"""The holders of messages: handler processes, each with a locked file for as long as it lives."""

import contextlib
import os
import secrets
from pathlib import Path
from typing import Final

from appliance.config import Config
from appliance.machine import locks, record_file
from appliance.machine.record_file import RecordFile

_BYTES: Final = 64


class Holder:
    """This process, under a name that no other ever has."""

    def __init__(self, config: Config) -> None:
        self._folder = folder(config)
        self.name = f"handle-{os.getpid()}-{secrets.token_hex(6)}"
        self._file = RecordFile(self._folder / self.name, _BYTES)

    def show(self) -> bool:
        """Let others see that it lives; return whether they can. Before it has any message."""
        self._file.write({"pid": os.getpid()})
        return (self._folder / self.name).exists()

    def living(self) -> set[str]:
        """Return the names of all holders that live; forget those that don't."""
        names = set()
        for path in record_file.files(self._folder):
            with contextlib.suppress(OSError):
                if path.name == self.name or locks.is_held(path):
                    names.add(path.name)
                else:
                    path.unlink(missing_ok=True)
        return names

    def close(self) -> None:
        """Say that it lives no more."""
        self._file.close()


def folder(config: Config) -> Path:
    """Return the folder of the holders' files."""
    return config.run_folder / "handling"
