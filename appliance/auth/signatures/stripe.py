"""Stripe's signatures: a time and one or more codes in one header. Pure.

`Stripe-Signature: t=1492774577,v1=HEX,v1=HEX,v0=HEX`. While a secret is rotated there is a `v1` for
each. `v0` and others are passed over. Signed is `t.body`; the secret is used with its `whsec_`.
"""

from collections.abc import Sequence
from typing import Final

from appliance.auth.signatures import clocks, macs
from appliance.auth.signatures.macs import Encoding
from appliance.auth.signatures.verdict import MISMATCH, Evidence, Verdict, malformed, missing

HEADER: Final = b"stripe-signature"
_LOOKS: Final = "t=UNIX-TIME,v1=HEX"


def verify(evidence: Evidence, secrets: Sequence[str], now: float, tolerance: float) -> Verdict:
    """Return whether one of the secrets signed this, and lately."""
    value = evidence.headers.get(HEADER)
    if value is None:
        return missing(HEADER)
    timestamp, codes = b"", []
    for item in value.split(b",", 2 * macs.MAX_SIGNATURES):
        name, _, text = item.strip().partition(b"=")
        if name == b"t":
            timestamp = text
        elif name == b"v1" and (code := macs.decode(text, Encoding.HEX)) is not None:
            codes.append(code)
    signed_at = clocks.parse(timestamp)
    if signed_at is None or not codes:
        return malformed(HEADER, _LOOKS)
    keys = [secret.encode("utf-8", "surrogatepass") for secret in secrets if secret]
    signed = [timestamp, b".", evidence.body]
    if not macs.is_made_by(keys, signed, "sha256", codes[: macs.MAX_SIGNATURES]):
        return MISMATCH
    return clocks.check(signed_at, now, tolerance)
