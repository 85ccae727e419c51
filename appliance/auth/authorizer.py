"""The authorizer finds who asks: by an Authorization header, an inbox's address or a cookie.

It is asked on the event loop, for heads that were not seen before. What it knows is a snapshot,
which `refresher.py` replaces.
"""

import base64
import binascii
import hmac
import time
from typing import Final

from appliance.auth.form_token import is_form_token
from appliance.auth.principal import ADMINISTRATOR, ANONYMOUS, Principal
from appliance.auth.refusal_counts import Refusals
from appliance.auth.snapshot import EMPTY, AccessSnapshot, Inbox, hashed, unix_time

#: Bytes of credentials that are looked at: a token has at most 256.
_MAX_CREDENTIALS: Final = 2048
#: Seconds for which a session of the console counts after it was last used.
SESSION_SECONDS: Final = 12 * 3600.0
#: Seconds of use after which a session's end is moved on: each move is a small write.
_EXTEND_SECONDS: Final = 600.0
#: The cookie's names: with the prefix browsers take it over TLS only, from this very host.
SECURE_COOKIE: Final = "__Host-appliance_session"
COOKIE: Final = "appliance_session"

#: Principals that nobody can revoke.
_ALWAYS: Final = (ADMINISTRATOR, ANONYMOUS)


class Authorizer:
    """Knows the administrator's token, as a hash, and the snapshot of all others.

    `generation` changes with every change of who may do what: a decision that was made under
    another generation must be made again.
    """

    def __init__(self, token: str) -> None:
        self._digest = hashed(token.encode())
        self.generation = 1
        self.snapshot = EMPTY
        #: whether a snapshot was read: before that, only the administrator is known
        self.is_loaded = False
        #: who was refused, for whoever decides on requests
        self.refusals = Refusals()
        #: Unix times of the last decision for each token and inbox, by name, since `take_uses`
        self._token_uses: dict[str, float] = {}
        self._inbox_uses: dict[str, float] = {}
        #: the same for sessions of the console, by digest
        self._session_uses: dict[bytes, float] = {}

    def put(self, snapshot: AccessSnapshot) -> None:
        """Go by this snapshot from now on; called in any thread, by one at a time."""
        self.snapshot = snapshot
        self.is_loaded = True
        self.generation += 1

    def principal(self, authorization: bytes | None) -> Principal | None:
        """Return who sends `Bearer TOKEN`, or `Basic` with the token as the password.

        None where the token is missing, malformed, wrong or has expired.
        """
        secret = _secret(authorization)
        if secret is None:
            return None
        return self.owner(hashed(secret))

    def owner(self, digest: bytes) -> Principal | None:
        """Return who has the token with this hash; None for nobody."""
        if hmac.compare_digest(digest, self._digest):
            return ADMINISTRATOR
        principal = self.snapshot.tokens.get(digest)
        if principal is not None:
            self._token_uses[principal.name] = time.time()
        return principal

    def token_of(self, principal: Principal) -> bytes | None:
        """Return the hash of a principal's token; None where it has none, or none any more."""
        if principal == ADMINISTRATOR:
            return self._digest
        tokens = self.snapshot.tokens.items()
        return next((digest for digest, owner in tokens if owner == principal), None)

    def session(self, cookies: bytes | None) -> Principal | None:
        """Return whose session a Cookie header names; None where it names none that counts."""
        secret = _session_secret(cookies)
        if secret is None:
            return None
        digest, now = hashed(secret), time.time()
        session = self.snapshot.sessions.get(digest)
        if session is None or unix_time(session.expires_at) <= now:
            return None
        principal = self.owner(session.token)
        if principal is not None:
            self._session_uses[digest] = now
        return principal

    def sends(self, cookies: bytes | None, form_token: bytes) -> Principal | None:
        """Return whose session's page sends this; None where it is not proven by its token."""
        secret = _session_secret(cookies)
        if secret is None or not is_form_token(secret, form_token):
            return None
        return self.session(cookies)

    def inbox(self, secret: str) -> Inbox | None:
        """Return the inbox with this secret in its address (POST /in/{secret}), or None."""
        inbox = self.snapshot.inbox(secret.encode("utf-8", "replace"))
        if inbox is not None:
            self._inbox_uses[inbox.name] = time.time()
        return inbox

    def holds(self, principal: Principal) -> bool:
        """Whether a principal that was found before may still do what it could."""
        return principal in _ALWAYS or principal in self.snapshot.principals

    def take_uses(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return when tokens and inboxes were used since the last call, by name.

        Decisions that were remembered are made again after it, so that their uses show too: that
        is once in some seconds, and nothing for each message.
        """
        tokens, self._token_uses = self._token_uses, {}
        inboxes, self._inbox_uses = self._inbox_uses, {}
        if tokens or inboxes:
            self.generation += 1
        return dict(tokens), dict(inboxes)

    def take_extensions(self) -> dict[bytes, tuple[float, float]]:
        """Return the sessions whose end is to be moved on: when each was used, and its new end."""
        uses, self._session_uses = self._session_uses, {}
        sessions = self.snapshot.sessions
        return {
            digest: (used, used + SESSION_SECONDS)
            for digest, used in dict(uses).items()
            if (row := sessions.get(digest))
            and used + SESSION_SECONDS - unix_time(row.expires_at) > _EXTEND_SECONDS
        }


def _secret(authorization: bytes | None) -> bytes | None:
    """Return the token that a header holds, whoever's it is."""
    if authorization is None or len(authorization) > _MAX_CREDENTIALS:
        return None
    scheme, _, value = authorization.partition(b" ")
    value = value.strip()
    scheme = scheme.lower()
    if scheme == b"bearer":
        return value
    if scheme == b"basic":
        try:
            _, colon, password = base64.b64decode(value, validate=True).partition(b":")
        except binascii.Error:
            return None
        return password if colon else None
    return None


def _session_secret(cookies: bytes | None) -> bytes | None:
    """Return the secret of the console's cookie; the one that came over TLS counts first."""
    if cookies is None or b"appliance_session=" not in cookies:
        return None
    found: dict[bytes, bytes] = {}
    for pair in cookies.split(b";"):
        name, _, value = pair.strip().partition(b"=")
        found.setdefault(name, value)
    return found.get(SECURE_COOKIE.encode()) or found.get(COOKIE.encode())
