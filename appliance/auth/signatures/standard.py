"""Standard Webhooks, and Svix, whose headers have other names. Pure.

`webhook-signature: v1,BASE64 v1,BASE64 v1a,...`: one for each secret; other versions than `v1` are
passed over. Signed is `id.timestamp.body`; the key is what `whsec_` stands before, in base64.
"""

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


def key_of(secret: str) -> bytes | None:
    """Return the bytes of a secret, which is base64 with or without `whsec_`; None for others."""
    return macs.decode_secret(secret.removeprefix(_PREFIX), Encoding.BASE64)
