"""Evidence and verdict: the request that a signature is checked against, and the outcome. Pure.

A check never raises, whatever a stranger sends: it returns a verdict. Neither the verdict's words
nor anything else here holds a secret, or a signature that would have been right.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple


class Evidence(NamedTuple):
    """A request as it came: its headers by their names in lower case, and its bytes.

    `url` is the address as the sender knows it, for those who sign that too; else empty.
    """

    headers: Mapping[bytes, bytes]
    body: bytes
    url: str = ""


class Verdict(NamedTuple):
    """Whether a signature is right. `reason` is a stable word, empty where it is.

    `explanation` is for people: it says what to look at.
    """

    reason: str = ""
    explanation: str = ""

    @property
    def is_verified(self) -> bool:
        """Whether the request is from somebody who has one of the secrets."""
        return not self.reason


#: The words of a verdict.
NO_SIGNATURE: Final = "no-signature"
BAD_SIGNATURE: Final = "bad-signature"
TOO_OLD: Final = "too-old"
TOO_NEW: Final = "too-new"
REASONS: Final = (NO_SIGNATURE, BAD_SIGNATURE, TOO_OLD, TOO_NEW)

VERIFIED: Final = Verdict()
#: No secret of the address made this signature.
MISMATCH: Final = Verdict(
    BAD_SIGNATURE,
    "the signature fits none of this address's secrets; compare the secret, and whether anything "
    "on the way changes the body",
)


def missing(header: bytes) -> Verdict:
    """Return the verdict on a request without this header."""
    return Verdict(NO_SIGNATURE, f"the header {header.decode('latin-1')} is missing")


def malformed(header: bytes, expected: str) -> Verdict:
    """Return the verdict on a header that can't be read; `expected` says how it should look."""
    return Verdict(
        BAD_SIGNATURE, f"the header {header.decode('latin-1')} can't be read; expected {expected}"
    )
