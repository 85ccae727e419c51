"""A signature that is alone in its header: GitHub's, Slack's, Shopify's, and most others. Pure.

They differ in the header, what stands before the signature, its encoding, the hash, and in what is
signed: the body, or a text around it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from appliance.auth.signatures import clocks, macs
from appliance.auth.signatures.macs import Encoding
from appliance.auth.signatures.verdict import (
    MISMATCH,
    VERIFIED,
    Evidence,
    Verdict,
    malformed,
    missing,
)

_FIELD: Final = re.compile(r"\{([a-z]*)\}")
#: What can stand in a template.
_FIELDS: Final = ("body", "timestamp", "url")


@dataclass(frozen=True, slots=True)
class HeaderScheme:
    """How such a sender signs.

    `template` is what is signed: a text with `{body}`, and with `{timestamp}` (the value of
    `timestamp_header`) and `{url}` where those are signed too. `also` is another name of the
    header. `secret_encoding` is how the secret's text stands for its bytes; None: it is them.
    """

    header: bytes
    prefix: bytes = b""
    encoding: Encoding = Encoding.HEX
    algorithm: str = "sha256"
    template: str = "{body}"
    timestamp_header: bytes | None = None
    also: bytes | None = None
    secret_encoding: Encoding | None = None

    def verify(
        self, evidence: Evidence, secrets: Sequence[str], now: float, tolerance: float
    ) -> Verdict:
        """Return whether one of the secrets signed this, and lately where the time is signed."""
        name = self.header
        value = evidence.headers.get(name)
        if value is None and self.also is not None:
            value = evidence.headers.get(self.also)
        if value is None:
            return missing(name)
        value = value.strip()
        code = None
        if value.startswith(self.prefix):
            code = macs.decode(value[len(self.prefix) :], self.encoding)
        if code is None:
            return malformed(name, f"{self.prefix.decode('latin-1')} and {self.encoding} digits")
        timestamp, signed_at = b"", None
        if self.timestamp_header is not None:
            if self.timestamp_header not in evidence.headers:
                return missing(self.timestamp_header)
            timestamp = evidence.headers[self.timestamp_header].strip()
            signed_at = clocks.parse(timestamp)
            if signed_at is None:
                return malformed(self.timestamp_header, "a Unix time")
        signed = self._signed(evidence, timestamp)
        if not macs.is_made_by(self._keys(secrets), signed, self.algorithm, [code]):
            return MISMATCH
        return VERIFIED if signed_at is None else clocks.check(signed_at, now, tolerance)

    def key(self, secret: str) -> bytes | None:
        """Return the bytes of a secret; None where it is not written as it must be."""
        if self.secret_encoding is None:
            return secret.encode("utf-8", "surrogatepass") or None
        return macs.decode_secret(secret, self.secret_encoding)

    def _keys(self, secrets: Sequence[str]) -> list[bytes]:
        return [key for secret in secrets if (key := self.key(secret)) is not None]

    def _signed(self, evidence: Evidence, timestamp: bytes) -> list[bytes]:
        fields = {
            "body": evidence.body,
            "timestamp": timestamp,
            "url": evidence.url.encode("utf-8", "replace"),
        }
        # Texts and names of fields take turns.
        parts = _FIELD.split(self.template)
        return [
            fields[part] if number % 2 else part.encode("utf-8")
            for number, part in enumerate(parts)
        ]


def check_template(template: str, *, has_timestamp: bool) -> None:
    """Check what is signed. Raises ValueError, in words."""
    names = _FIELD.findall(template)
    if unknown := sorted(set(names) - set(_FIELDS)):
        raise ValueError(f"knows no {{{unknown[0]}}}; it can have {{body}}, {{timestamp}}, {{url}}")
    if names.count("body") != 1:
        raise ValueError("must have {body} once: what is not signed could be anybody's")
    if ("timestamp" in names) is not has_timestamp:
        raise ValueError("{timestamp} and the name of its header go together")
