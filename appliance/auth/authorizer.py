"""The authorizer finds the principal that an Authorization header stands for."""

import hashlib
import hmac

from appliance.auth.principal import ADMINISTRATOR, Principal


class Authorizer:
    """Knows the administrator's token, as a hash; compares in constant time.

    `generation` changes with every change of who may do what: a decision that was made under
    another generation must be made again.
    """

    def __init__(self, token: str) -> None:
        self._digest = _digest(token.encode())
        self.generation = 1

    def principal(self, authorization: bytes | None) -> Principal | None:
        """Return who sends `Bearer TOKEN`; None where the token is missing, malformed or wrong."""
        scheme, _, token = (authorization or b"").partition(b" ")
        is_right = hmac.compare_digest(_digest(token.strip()), self._digest)
        return ADMINISTRATOR if is_right and scheme.lower() == b"bearer" else None


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
