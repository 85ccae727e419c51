"""Who may call: whoever holds the administrator's token."""

import hashlib
import hmac


class Bearer:
    """Compares an Authorization header with the token, in constant time and on hashes."""

    def __init__(self, token: str) -> None:
        self._digest = _digest(token.encode())

    def allows(self, authorization: bytes | None) -> bool:
        """Whether the header's value is `Bearer TOKEN` with the right token."""
        scheme, _, given = (authorization or b"").partition(b" ")
        right = hmac.compare_digest(_digest(given.strip()), self._digest)
        return right and scheme.lower() == b"bearer"


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
