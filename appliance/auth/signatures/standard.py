"""Standard Webhooks, read and made; and Svix, whose headers have other names.

`webhook-signature: v1,BASE64 v1,BASE64 v1a,...`: one for each secret; other versions than `v1` are
passed over. Signed is `id.timestamp.body`; the key is what `whsec_` stands before, in base64.
"""

import base64
import hmac
import secrets as system_secrets
from collections.abc import Sequence
from typing import Final

from appliance.auth.signatures import clocks, macs
from appliance.auth.signatures.macs import Encoding
from appliance.auth.signatures.verdict import MISMATCH, Evidence, Verdict, malformed, missing

#: Beginnings of the headers' names, in the order in which they count.
_FAMILIES: Final = (b"webhook-", b"svix-")
_PREFIX: Final = "whsec_"


def verify(evidence: Evidence, secrets: Sequence[str], now: float, tolerance: float) -> Verdict:
    """Return whether one of the secrets signed this, and lately."""
    headers = evidence.headers
    family = next((each for each in _FAMILIES if each + b"signature" in headers), _FAMILIES[0])
    names = id_name, time_name, name = [
        family + each for each in (b"id", b"timestamp", b"signature")
    ]
    for each in reversed(names):
        if each not in headers:
            return missing(each)
    timestamp = headers[time_name].strip()
    signed_at = clocks.parse(timestamp)
    if signed_at is None:
        return malformed(time_name, "a Unix time")
    codes = []
    for item in headers[name].split(None, 2 * macs.MAX_SIGNATURES):
        version, _, text = item.partition(b",")
        if version == b"v1" and (code := macs.decode(text, Encoding.BASE64)) is not None:
            codes.append(code)
    if not codes:
        return malformed(name, "v1,BASE64")
    keys = [key for secret in secrets if (key := key_of(secret)) is not None]
    signed = [headers[id_name].strip(), b".", timestamp, b".", evidence.body]
    if not macs.is_made_by(keys, signed, "sha256", codes[: macs.MAX_SIGNATURES]):
        return MISMATCH
    return clocks.check(signed_at, now, tolerance)


def sign(secrets: Sequence[str], message_id: str, signed_at: int, body: bytes) -> dict[str, str]:
    """Return the headers that prove a message; `signed_at` is a Unix time in seconds.

    A signature for each secret, so that one can be replaced while the receiver still has the other.
    Raises ValueError for a secret that is none.
    """
    signed = b"%b.%d.%b" % (message_id.encode(), signed_at, body)
    signatures = []
    for secret in secrets:
        key = key_of(secret)
        if key is None:
            raise ValueError("a signing secret is whsec_ and base64")
        code = hmac.digest(key, signed, "sha256")
        signatures.append(f"v1,{base64.b64encode(code).decode()}")
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(signed_at),
        "webhook-signature": " ".join(signatures),
    }


def new_secret() -> str:
    """Return a secret of 32 random bytes, as its owners write it."""
    return _PREFIX + base64.b64encode(system_secrets.token_bytes(32)).decode()


def key_of(secret: str) -> bytes | None:
    """Return the bytes of a secret, which is base64 with or without `whsec_`; None for others."""
    return macs.decode_secret(secret.removeprefix(_PREFIX), Encoding.BASE64)
