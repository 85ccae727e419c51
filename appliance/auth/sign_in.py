"""Signing in to the console: a token, or a link that was made with one, becomes a session.

A session is a secret in a browser's cookie; the store keeps its SHA-256. It has the rights of its
token and ends with it: when the token is revoked, when nobody used it for some hours, or when its
owner signs out. A restart of the API ends none.
"""

import contextlib
import secrets
import time
from pathlib import Path
from typing import Final

from appliance.auth.authorizer import SESSION_SECONDS, Authorizer
from appliance.auth.principal import Principal
from appliance.auth.refresher import AccessRefresher
from appliance.auth.refusal_counts import Refusals
from appliance.auth.snapshot import hashed
from appliance.errors import InputError, StoreError
from appliance.machine import files
from appliance.model import timestamps
from appliance.store.access_rows import Actor, Deed, SessionRow
from appliance.store.base import Access

#: 256 bits: out of reach of guessing.
_SECRET_BYTES: Final = 32
#: Wrong tokens that an address can try at once, and seconds until it has one more try.
TRIES: Final = 10
_SECONDS_A_TRY: Final = 6.0
#: Seconds for which a link signs in, and links at once.
LINK_SECONDS: Final = 60
_MAX_LINKS: Final = 100
#: Characters of what a browser calls itself that are kept.
_MAX_AGENT: Final = 200


class SignIn:
    """One for each API process; used by any thread.

    The processes share the folder `links`: any of them signs in by a link that another one made.
    """

    def __init__(
        self, access: Access, authorizer: Authorizer, refresher: AccessRefresher, links: Path
    ) -> None:
        self._access = access
        self._authorizer = authorizer
        self._refresher = refresher
        self._tries = Refusals(at_once=TRIES, per_second=1 / _SECONDS_A_TRY)
        #: a file for each link: the hash of its code, with that of its token in it
        self._links = links

    def wait(self, address: str) -> float:
        """Return the seconds until this address can try a token again; 0: now."""
        return self._tries.wait(address)

    def tries_left(self, address: str) -> int:
        """Return how many wrong tokens this address can still try at once."""
        return self._tries.left(address)

    def with_token(self, token: str, address: str, agent: str) -> str | None:
        """Return the secret of a new session for who has this token; None where nobody has.

        Raises StoreError.
        """
        digest = hashed(token.strip().encode("utf-8", "replace"))
        return self._start(digest, address, agent)

    def with_link(self, code: str, address: str, agent: str) -> str | None:
        """Return the secret of a new session for who was given this link; it works once.

        Raises StoreError.
        """
        path = self._link(code)
        try:
            is_valid = 0 <= time.time() - path.stat().st_mtime < LINK_SECONDS
            digest = bytes.fromhex(path.read_text())
            path.unlink()  # one of two who come at once fails here
        except (OSError, ValueError):
            is_valid = False
        return self._start(digest if is_valid else b"", address, agent)

    def make_link(self, principal: Principal) -> str:
        """Return the code of a link that signs in once, within a minute, as this principal.

        Raises InputError where the principal has no token, StoreError where the link can't be
        kept for its minute.
        """
        digest = self._authorizer.token_of(principal)
        if digest is None:
            raise InputError("only a token's owner can make a link that signs in")
        code = secrets.token_urlsafe(_SECRET_BYTES)
        try:
            self._links.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._forget_links()
            files.write_private(self._link(code), digest.hex())
        except OSError as error:
            raise StoreError(f"{self._links}: no link can be kept: {error.strerror}") from error
        return code

    def _link(self, code: str) -> Path:
        return self._links / hashed(code.encode("utf-8", "replace")).hex()

    def _forget_links(self) -> None:
        """Remove links whose minute is over, and the oldest of many. Raises OSError."""
        made: list[tuple[float, Path]] = []
        for path in self._links.iterdir():
            with contextlib.suppress(FileNotFoundError):
                made.append((path.stat().st_mtime, path))
        made.sort()
        newest = made[-_MAX_LINKS + 1 :]
        for at, path in made:
            if (at, path) not in newest or at + LINK_SECONDS <= time.time():
                path.unlink(missing_ok=True)

    def out(self, secret: str, by: Actor) -> None:
        """End the session of this secret. Raises StoreError."""
        self.end(hashed(secret.encode("utf-8", "replace")), by)

    def end(self, digest: bytes, by: Actor) -> bool:
        """End a session; return whether it was there. Raises StoreError."""
        was_there = self._access.end_session(digest, Deed(by, "sign-out", by.name))
        if was_there:
            self._refresher.refresh()
        return was_there

    def _start(self, token: bytes, address: str, agent: str) -> str | None:
        principal = self._authorizer.owner(token)
        if principal is None:
            self._tries.note(address, "unauthorized")
            self._authorizer.refusals.note(address, "unauthorized")
            return None
        secret, now = secrets.token_urlsafe(_SECRET_BYTES), time.time()
        session = SessionRow(
            hashed(secret.encode()),
            token,
            principal.name,
            address,
            agent[:_MAX_AGENT],
            timestamps.timestamp(now),
            timestamps.timestamp(now + SESSION_SECONDS),
            timestamps.timestamp(now),
        )
        by = Actor(principal.name, address)
        deed = Deed(by, "sign-in", principal.name)
        self._access.create_session(session, deed)
        self._refresher.refresh()
        return secret
