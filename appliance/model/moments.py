"""Times as people write them in an address: a span such as `10m`, ISO 8601, Unix time. Pure."""

import re
import time
from datetime import UTC, datetime
from typing import Final

from appliance.errors import InputError
from appliance.model import quantities, timestamps

#: Beginning of an ISO 8601 time. Python takes any character between date and time, so that the
#: digits of a Unix time could be read as a date of the eighteenth century.
_DATE: Final = re.compile(r"[0-9W-]{7,10}(?:\Z|[Tt ])")


def moment(name: str, text: str | None, now: float | None = None) -> str | None:
    """Return a time as the database keeps it, from a span (`10m`: ten minutes ago) or a time.

    A time is ISO 8601 (UTC if it names no zone), 10 digits (Unix seconds) or 13 digits (Unix
    milliseconds). Raises InputError for anything else, and for a time before 1970. A span that
    begins before 1970 begins in 1970.
    """
    if text is None:
        return None
    try:
        seconds = max(0.0, (time.time() if now is None else now) - quantities.span(text))
    except ValueError:
        seconds = _unix_time(name, text)
    return timestamps.timestamp(min(seconds, timestamps.LAST_SECOND))


def ahead(name: str, text: str, begin: str | None = None) -> str:
    """Return the time that lies a span (`10m`) after `begin` (None: now). Raises InputError."""
    try:
        start = time.time() if begin is None else datetime.fromisoformat(begin).timestamp()
        seconds = start + quantities.span(text)
    except ValueError as error:
        raise InputError(f"{name}: expected a span such as 30s, 10m, 2h, 1d or 1w") from error
    return timestamps.timestamp(min(seconds, timestamps.LAST_SECOND))


def at_time(name: str, text: str) -> str:
    """Return a time as the database keeps it, as `moment` reads it; no span. Raises InputError."""
    return timestamps.timestamp(min(_unix_time(name, text), timestamps.LAST_SECOND))


def _unix_time(name: str, text: str) -> float:
    if re.fullmatch(r"[0-9]{10}|[0-9]{13}", text):
        return int(text[:10]) + int(text[10:] or 0) / 1000
    # A plus sign in an address means a space; people forget to write %2B.
    repaired = re.sub(r" (?=[0-9]{2}:?[0-9]{2}$)", "+", text) if "T" in text else text
    if not _DATE.match(repaired):
        raise _bad_moment(name)
    try:
        parsed = datetime.fromisoformat(repaired)
        seconds = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise _bad_moment(name) from error
    if seconds < 0:
        raise InputError(f"{name}: expected a time after 1970-01-01")
    return seconds


def _bad_moment(name: str) -> InputError:
    return InputError(
        f"{name}: expected a span such as 30s, 10m, 2h, 1d or 1w, a time such as "
        "2026-01-31T12:00:00Z, or a Unix time of 10 digits (seconds) or 13 (milliseconds)"
    )
