"""The canary's token: it can publish to the canary's topic and do nothing else.

It goes over the network to the public address each minute, so it is not the administrator's.
"""

import secrets
import time
from pathlib import Path
from typing import Final

from appliance.auth.snapshot import hashed
from appliance.config import Config
from appliance.errors import FolderError
from appliance.machine import files
from appliance.model import timestamps
from appliance.model.topics import CANARY_TOPIC
from appliance.store.access_rows import Actor, Deed, TokenRow
from appliance.store.base import Access

#: Name of the token, in lists and in the audit trail.
NAME: Final = "appliance.canary"
_SECRET_BYTES: Final = 32
_BY: Final = Actor("appliance", "janitor")


def canary_token(config: Config, access: Access) -> str:
    """Return the token, made now if there is none. Raises FolderError, StoreError."""
    try:
        return _path(config).read_text().strip() or make_anew(config, access)
    except FileNotFoundError:
        return make_anew(config, access)
    except OSError as error:
        raise FolderError(f"{_path(config)} can't be read: {error.strerror}") from error


def make_anew(config: Config, access: Access) -> str:
    """Make the token; one that was made before counts no more. Raises FolderError, StoreError."""
    secret = f"qa_{secrets.token_urlsafe(_SECRET_BYTES)}"
    token = TokenRow(
        name=NAME,
        rights=("publish",),
        topics=(CANARY_TOPIC,),
        rate=None,
        created_at=timestamps.timestamp(time.time()),
        expires_at=None,
    )
    access.revoke_token(NAME, Deed(_BY, "token-revoke", NAME))
    details = f"publish for {CANARY_TOPIC}"
    access.create_token(token, hashed(secret.encode()), Deed(_BY, "token-create", NAME, details))
    try:
        files.write_private(_path(config), secret + "\n")
    except OSError as error:
        raise FolderError(f"{_path(config)} can't be written: {error.strerror}") from error
    return secret


def _path(config: Config) -> Path:
    return config.data / "canary-token"
