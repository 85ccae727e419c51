"""Query parameters of the reading addresses: known ones only, each at most once, each checked.

Pure: takes a mapping of lists, raises InputError (a 400) with words that name the parameter.
"""

import base64
import binascii
import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from appliance.errors import InputError
from appliance.model import messages

#: Messages on a page when the client doesn't say, and at most.
DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000
#: Most messages that `limit` can ask of an export.
MAX_EXPORT: Final = 10**12

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
#: First byte of every cursor: what a cursor holds can change, and an old one is then told apart.
_VERSION: Final = b"1"
_MAX_SEQ: Final = 2**63 - 1


def parameters(given: Mapping[str, Sequence[str]], known: Sequence[str]) -> dict[str, str]:
    """Return each parameter's one value. Raises InputError for one not in `known`, or repeated."""
    for name, values in given.items():
        if name not in known:
            takes = f"known are {', '.join(known)}" if known else "this address takes none"
            raise InputError(f"no such query parameter: {name[:50]!r}; {takes}")
        if len(values) > 1:
            raise InputError(f"{name} is given {len(values)} times")
    return {name: values[0] for name, values in given.items()}


def limit(text: str | None, default: int | None, most: int) -> int | None:
    """Return a count from 1 to `most`, or `default` where the parameter is absent."""
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,15}", text) or not 1 <= int(text) <= most:
        raise InputError(f"limit: expected a whole number from 1 to {most}")
    return int(text)


def choice(name: str, text: str | None, words: Sequence[str]) -> str:
    """Return one of `words`; the first where the parameter is absent."""
    if text is None:
        return words[0]
    if text not in words:
        raise InputError(f"{name}: expected one of {', '.join(words)}")
    return text


def seq_cursor(seq: int) -> str:
    """Write a place in the order of storing as an opaque word."""
    return _encode(str(seq))


def parse_seq_cursor(name: str, text: str | None) -> int | None:
    """Read such a word; `0` stands for before the first message."""
    if text is None:
        return None
    if text == "0":
        return 0
    digits = _decode(name, text)
    if not re.fullmatch(r"0|[1-9][0-9]{0,18}", digits) or int(digits) > _MAX_SEQ:
        raise _bad_cursor(name)
    return int(digits)


def topic_cursor(topic: str) -> str:
    """Write a place in the list of topics as an opaque word."""
    return _encode(topic)


def parse_topic_cursor(name: str, text: str | None) -> str:
    """Read such a word; the start of the list where the parameter is absent."""
    return "" if text is None else _decode(name, text)


def since(text: str | None, now: float | None = None) -> str | None:
    """Return a time as the database keeps it: `10m` ago, or an ISO 8601 time (UTC if no zone).

    Raises InputError for anything else. Times before 1970 are taken as 1970.
    """
    if text is None:
        return None
    if match := re.fullmatch(r"([0-9]{1,9})([smhdw])", text):
        seconds = (time.time() if now is None else now) - int(match[1]) * _UNITS[match[2]]
    else:
        # A plus sign in an address means a space; people forget to write %2B.
        repaired = re.sub(r" (?=[0-9]{2}:?[0-9]{2}$)", "+", text) if "T" in text else text
        try:
            moment = datetime.fromisoformat(repaired)
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError) as error:
            raise InputError(
                "since: expected a span such as 30s, 10m, 2h, 1d or 1w, "
                "or a time such as 2026-01-31T12:00:00Z"
            ) from error
    return messages.timestamp(min(max(0.0, seconds), 253402300799.0))  # the end of year 9999


def _encode(text: str) -> str:
    return base64.urlsafe_b64encode(_VERSION + text.encode()).decode().rstrip("=")


def _decode(name: str, text: str) -> str:
    """Undo _encode; exactly what it writes is taken, so that a cursor has one spelling."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        value = raw[1:].decode("ascii")
    except (ValueError, binascii.Error) as error:
        raise _bad_cursor(name) from error
    if raw[:1] != _VERSION or _encode(value) != text:
        raise _bad_cursor(name)
    return value


def _bad_cursor(name: str) -> InputError:
    return InputError(f"{name}: not a cursor; use one that an answer's `next` gave")
