"""The authorizer finds who asks: by an Authorization header, or by the secret of an inbox address.

It is asked on the event loop, for heads that were not seen before. What it knows is a snapshot,
which `refresher.py` replaces.
"""

import base64
import binascii
import hmac
import time
from typing import Final

from appliance.auth.principal import ADMINISTRATOR, ANONYMOUS, Principal
from appliance.auth.refusal_counts import Refusals
from appliance.auth.snapshot import EMPTY, AccessSnapshot, Inbox, hashed

#: Bytes of credentials that are looked at: a token has at most 256.
_MAX_CREDENTIALS: Final = 2048
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
        digest = hashed(secret)
        if hmac.compare_digest(digest, self._digest):
            return ADMINISTRATOR
        principal = self.snapshot.tokens.get(digest)
        if principal is not None:
            self._token_uses[principal.name] = time.time()
        return principal

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
