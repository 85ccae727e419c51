"""The canary book: how the last canary fared; a file of the run folder, for all to read."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from appliance.config import Config
from appliance.machine import files

#: Canaries that fail one after another before it is an alert: a restart takes one with it.
_PATIENCE: Final = 2
_MOST_BYTES: Final = 2**16


@dataclass(frozen=True)
class CanaryBook:
    """The last canary that became a row, with the seconds it took; and those that failed since."""

    url: str = ""
    last_good_at: str | None = None
    seconds: float | None = None
    failing_since: str | None = None
    failures: int = 0
    reason: str | None = None


def read(config: Config) -> CanaryBook | None:
    """Return the book; None where no canary is to be sent, or none was yet."""
    if not config.canary_every:
        return None
    try:
        with _path(config).open("rb") as file:
            return CanaryBook(**json.loads(file.read(_MOST_BYTES)))
    except (OSError, ValueError, TypeError):
        return None


def keep(config: Config, book: CanaryBook) -> None:
    """Write the book. Raises OSError."""
    _path(config).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.write_private(_path(config), json.dumps(asdict(book)) + "\n")


def state(config: Config) -> dict[str, Any] | None:
    """Return the book as JSON has it."""
    book = read(config)
    return None if book is None else asdict(book)


def canary_trouble(config: Config) -> str:
    """Return what is wrong, and what to do; empty where nothing is known."""
    book = read(config)
    if book is None or book.failures < _PATIENCE:
        return ""
    return (
        f"messages sent to {book.url} don't become rows, since {book.failing_since}: "
        f"{book.reason}; see whether that address leads here from this machine, then "
        "appliance status and appliance doctor"
    )


def _path(config: Config) -> Path:
    return config.run_folder / "canary.json"
