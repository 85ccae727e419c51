"""Twilio's signatures: of the address and the fields of the form, not of the body's bytes. Pure.

`X-Twilio-Signature: BASE64`, HMAC-SHA1 with the account's token, or the hash that
`X-Twilio-Webhooks-Signature-Settings` names where a shared key signs. Signed is the address as
Twilio knows it, then each field's name and value, sorted. A body that is no form is signed by its
SHA-256 in the address's `bodySHA256`.
"""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qs, parse_qsl, urlsplit, urlunsplit

from appliance.auth.signatures import macs
from appliance.auth.signatures.macs import Encoding
from appliance.auth.signatures.verdict import (
    MISMATCH,
    VERIFIED,
    Evidence,
    Verdict,
    malformed,
    missing,
)

HEADER: Final = b"x-twilio-signature"
_SETTINGS: Final = b"x-twilio-webhooks-signature-settings"
_ALGORITHMS: Final = {b"HMAC_SHA1": "sha1", b"HMAC_SHA256": "sha256"}
_FORM: Final = b"application/x-www-form-urlencoded"
_PORTS: Final = {"https": 443, "http": 80}
#: Fields and bytes of a form; Twilio sends a few dozen. More would take long to take apart.
_MAX_FIELDS: Final = 1000
_MAX_FORM_BYTES: Final = 128 * 1024


def verify(
    evidence: Evidence,
    secrets: Sequence[str],
    now: float,  # noqa: ARG001  # no time is signed
    tolerance: float,  # noqa: ARG001
) -> Verdict:
    """Return whether one of the tokens signed this, sent to this address."""
    value = evidence.headers.get(HEADER)
    if value is None:
        return missing(HEADER)
    code = macs.decode(value.strip(), Encoding.BASE64)
    algorithm = _algorithm(evidence.headers.get(_SETTINGS, b""))
    if code is None:
        return malformed(HEADER, "base64")
    if algorithm is None:
        return malformed(_SETTINGS, "algorithm=HMAC_SHA1 or HMAC_SHA256")
    fields = _fields(evidence)
    if fields is None:
        return MISMATCH
    keys = [secret.encode("utf-8", "surrogatepass") for secret in secrets if secret]
    is_right = False
    for url in _spellings(evidence.url):  # Twilio's systems differ in whether they write the port
        signed = [url.encode("utf-8", "replace"), fields]
        is_right |= macs.is_made_by(keys, signed, algorithm, [code])
    if is_right:
        return VERIFIED
    return MISMATCH._replace(
        explanation=f"{MISMATCH.explanation}; Twilio signs the address too: it must be set there "
        "as this server sees it (APPLIANCE_PUBLIC_URL, or the address's public_url)"
    )


def _algorithm(settings: bytes) -> str | None:
    for part in settings.split(b",", 16):
        name, _, value = part.partition(b"=")
        if name.strip() == b"algorithm" and value.strip():
            return _ALGORITHMS.get(value.strip().upper())
    return "sha1"


def _fields(evidence: Evidence) -> bytes | None:
    """Return what is signed behind the address; None where the body is not what was signed."""
    body = evidence.body
    media_type = evidence.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media_type == _FORM:
        return _form(body)
    try:
        query = parse_qs(urlsplit(evidence.url).query, max_num_fields=_MAX_FIELDS)
    except ValueError:
        return None
    if "bodySHA256" in query:
        right = hashlib.sha256(body).hexdigest().encode()
        claimed = query["bodySHA256"][0].encode("utf-8", "replace")
        return b"" if hmac.compare_digest(right, claimed) else None
    return None if body else b""


def _form(body: bytes) -> bytes | None:
    if len(body) > _MAX_FORM_BYTES:
        return None
    try:
        pairs = parse_qsl(
            body.decode("utf-8"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MAX_FIELDS,
        )
    except ValueError:
        return None
    return b"".join(
        name.encode("utf-8") + value.encode("utf-8") for name, value in sorted(set(pairs))
    )


def _spellings(url: str) -> list[str]:
    """Return the address as it is, without a port, and with one."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return [url]
    bare = parts.netloc.removesuffix(f":{port}") if port is not None else parts.netloc
    named = f"{bare}:{port or _PORTS.get(parts.scheme, 80)}"
    return [url, *(urlunsplit(parts._replace(netloc=each)) for each in (bare, named))]
