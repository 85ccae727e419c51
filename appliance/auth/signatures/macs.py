"""Message authentication codes (HMAC) as senders write them, compared in constant time. Pure."""

import base64
import binascii
import hmac
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

#: Hashes that senders use. MD5 is left out: it is broken for more than this, too.
HASHES: Final = ("sha256", "sha1", "sha384", "sha512")
#: Signatures in one request that are looked at: senders send one for each of a few secrets.
MAX_SIGNATURES: Final = 16

_HEX: Final = re.compile(rb"(?:[0-9a-fA-F]{2})+")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/]+={0,2}")
_BASE64URL: Final = re.compile(rb"[A-Za-z0-9_-]+={0,2}")
#: Characters of the longest code: SHA-512 in hexadecimal digits.
_LONGEST: Final = 128


class Encoding(StrEnum):
    """How a code is written."""

    HEX = "hex"
    BASE64 = "base64"
    BASE64URL = "base64url"


def decode(text: bytes, encoding: Encoding) -> bytes | None:
    """Return the bytes of a code; None where the text is none. Padding can be left out."""
    if len(text) > _LONGEST:
        return None
    return _decode(text, encoding)


def decode_secret(text: str, encoding: Encoding) -> bytes | None:
    """Return the bytes of a secret that is written so; None where the text is none."""
    return _decode(text.encode("utf-8", "replace"), encoding) or None


def is_made_by(
    secrets: Iterable[bytes], signed: Sequence[bytes], algorithm: str, codes: Sequence[bytes]
) -> bool:
    """Whether one of the codes is that of what is signed, by one of the secrets.

    Every secret and every code is looked at, so that the time says nothing of which one it was.
    """
    is_right = False
    for secret in secrets:
        code = hmac.new(secret, digestmod=algorithm)
        for piece in signed:
            code.update(piece)
        right = code.digest()
        for candidate in codes:
            is_right |= hmac.compare_digest(right, candidate)
    return is_right


def _decode(text: bytes, encoding: Encoding) -> bytes | None:
    try:
        if encoding is Encoding.HEX:
            return bytes.fromhex(text.decode("ascii")) if _HEX.fullmatch(text) else None
        is_url = encoding is Encoding.BASE64URL
        if not (_BASE64URL if is_url else _BASE64).fullmatch(text):
            return None
        bare = text.rstrip(b"=")
        return base64.b64decode(bare + b"=" * (-len(bare) % 4), b"-_" if is_url else None)
    except (ValueError, binascii.Error):
        return None
