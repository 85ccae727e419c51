"""Secrets that the appliance makes for itself at the first start: files of mode 0600.

Several processes may start at once and want the same secret; the first to link its file wins and
all read the same value.
"""

import os
import secrets
from pathlib import Path

from appliance.config import Config
from appliance.errors import ConfigError

#: 256 bits: out of reach of guessing, and still short enough to paste.
_SECRET_BYTES = 32


def token_path(config: Config) -> Path:
    """Path of the administrator's token, where it is not given as a setting."""
    return config.data / "token"


def token(config: Config) -> str:
    """Return the administrator's token, made now if there is none yet.

    Raises ConfigError where the file can't be made or read.
    """
    return config.token or _read_or_make(token_path(config))


def broker_password(config: Config) -> str:
    """Return the password of our own broker's user, made now if there is none yet.

    Raises ConfigError where the file can't be made or read.
    """
    return _read_or_make(config.broker_home / "password")


def _read_or_make(path: Path) -> str:
    try:
        if not path.exists():
            _make(path)
        value = path.read_text().strip()
    except OSError as error:
        raise ConfigError(
            f"APPLIANCE_DATA: {path} can't be made or read ({error.strerror}); "
            "give the folder to the user that the appliance runs as"
        ) from error
    if not value:
        raise ConfigError(f"APPLIANCE_DATA: {path} is empty; remove it and a new one is made")
    return value


def _make(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(_SECRET_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        pass  # another process was first; its secret is the one
    finally:
        draft.unlink()
