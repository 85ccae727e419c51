"""Secrets that the appliance makes for itself at the first start: files of mode 0600.

Several processes may start at once and want the same secret; the first to make its file wins and
all read the same value.
"""

import secrets
from pathlib import Path

from appliance.config import Config, parsers
from appliance.errors import FolderError
from appliance.machine import files

#: 256 bits: out of reach of guessing, and still short enough to paste.
_SECRET_BYTES = 32


def token_path(config: Config) -> Path:
    """Path of the administrator's token, where no setting gives one."""
    return config.data / "token"


def token(config: Config) -> str:
    """Return the administrator's token, made now if there is none yet.

    Raises FolderError where the file can't be made or read, or someone put a short token into it.
    """
    if config.token:
        return config.token
    path = token_path(config)
    value = _read_or_make(path)
    if parsers.is_guessable(value):
        raise FolderError(
            f"APPLIANCE_DATA: {path} has a token that can be guessed: it needs "
            f"{parsers.LEAST_TOKEN} characters or more, made at random; remove the file and a new "
            "one is made, then give it to every sender"
        )
    return value


def broker_password(config: Config) -> str:
    """Return the password of our own broker's user, made now if there is none yet.

    Raises FolderError where the file can't be made or read.
    """
    return _read_or_make(config.broker_home / "password")


def _read_or_make(path: Path) -> str:
    try:
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            files.write_private_once(path, secrets.token_urlsafe(_SECRET_BYTES) + "\n")
        value = path.read_text().strip()
    except OSError as error:
        raise FolderError(
            f"APPLIANCE_DATA: {path} can't be made or read ({error.strerror}); "
            "give the folder to the user that the appliance runs as"
        ) from error
    if not value:
        raise FolderError(f"APPLIANCE_DATA: {path} is empty; remove it and a new one is made")
    return value
