"""The token that the forms and scripts of a session's pages carry, to prove where they are from.

Another site can make a browser send a session's cookie. It can neither read it nor make its hash.
"""

import hashlib
import hmac


def form_token(secret: bytes) -> str:
    """Return the token of the session with this secret."""
    return hashlib.sha256(b"form of " + secret).hexdigest()


def is_form_token(secret: bytes, sent: bytes) -> bool:
    """Whether this is the session's token, compared in constant time."""
    return hmac.compare_digest(form_token(secret).encode(), sent)
