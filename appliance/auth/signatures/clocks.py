"""The time that a sender signs with a request, so that it can't be sent again later. Pure."""

import re
from typing import Final

from appliance.auth.signatures.verdict import TOO_NEW, TOO_OLD, VERIFIED, Verdict

#: Seconds that a signed time can differ from our clock, in either direction.
TOLERANCE_SECONDS: Final = 300

_DIGITS: Final = re.compile(rb"[0-9]{1,16}")
#: Above this a Unix time is in milliseconds: in seconds it would be the year 5138.
_LAST_SECOND: Final = 10**11


def parse(text: bytes) -> float | None:
    """Return the Unix time that the digits stand for, seconds or milliseconds; None for others."""
    if not _DIGITS.fullmatch(text):
        return None
    number = int(text)
    return number / 1000 if number > _LAST_SECOND else float(number)


def check(signed_at: float, now: float, tolerance: float) -> Verdict:
    """Return the verdict on the time of a request whose signature is right."""
    late = now - signed_at
    if abs(late) <= tolerance:
        return VERIFIED
    if late > 0:
        return Verdict(
            TOO_OLD, f"signed {late:.0f} s ago; this address takes it for {tolerance:.0f} s"
        )
    return Verdict(
        TOO_NEW,
        f"signed {-late:.0f} s in the future by our clock; this address allows {tolerance:.0f} s",
    )
