"""Query parameters of the views: each is known, comes once, and has a valid value.

Pure. Takes a mapping of lists; raises InputError (a 400) with words that name the parameter.
"""

import base64
import binascii
import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar

from appliance.errors import InputError
from appliance.model import quantities, timestamps
from appliance.model.conditions import Condition, parse_condition
from appliance.model.search_words import SearchWords, parse_words

KindT = TypeVar("KindT", bound=str)

#: Rows on a page by default, and at most.
DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000
#: Rows that `limit` can ask of an export at most.
MAX_EXPORT: Final = 10**12

#: First byte of every cursor: should a cursor's content change, an old one is recognized by it.
_VERSION: Final = b"1"
#: Beginning of an ISO 8601 time. Python takes any character between date and time, so that the
#: digits of a Unix time could be read as a date of the eighteenth century.
_DATE: Final = re.compile(r"[0-9W-]{7,10}(?:\Z|[Tt ])")
#: Topics and conditions of one request.
_MOST_TOPICS: Final = 100
_MOST_CONDITIONS: Final = 20
_TOPICS: Final = re.compile(r"[a-z0-9*][a-z0-9._*-]{0,99}", re.ASCII)
_MAX_SEQ: Final = 2**63 - 1


def read(
    query: Mapping[str, Sequence[str]], names: Sequence[str], repeated: Sequence[str] = ()
) -> dict[str, str]:
    """Return the one value of each parameter; those in `repeated` are checked by name only.

    Raises InputError for a parameter that is neither in `names` nor in `repeated`, or comes several
    times and must not.
    """
    for name, values in query.items():
        if name not in names and name not in repeated:
            takes = f"takes {', '.join([*names, *repeated])}" if names else "takes none"
            raise InputError(f"unknown query parameter {name[:50]!r}; this address {takes}")
        if len(values) > 1 and name not in repeated:
            raise InputError(f"{name}: expected once, came {len(values)} times")
    return {name: values[0] for name, values in query.items() if name in names}


def page_limit(text: str | None) -> int:
    """Return how many rows a page has at most; DEFAULT_LIMIT if the parameter is absent."""
    return DEFAULT_LIMIT if text is None else _limit(text, MAX_LIMIT)


def export_limit(text: str | None) -> int | None:
    """Return how many rows an export has at most; None (no limit) if the parameter is absent."""
    return None if text is None else _limit(text, MAX_EXPORT)


def choice(name: str, text: str | None, words: Sequence[str]) -> str:
    """Return one of `words`; the first if the parameter is absent."""
    if text is None:
        return words[0]
    if text not in words:
        raise InputError(f"{name}: expected one of {', '.join(words)}")
    return text


def topics(text: str | None) -> tuple[str, ...] | None:
    """Return names and patterns of topics (`orders,eu.*`); None if the parameter is absent."""
    if text is None:
        return None
    names = tuple(text.split(","))
    if len(names) > _MOST_TOPICS or not all(_TOPICS.fullmatch(name) for name in names):
        raise InputError(
            f"topic: expected up to {_MOST_TOPICS} topics with commas between them; * is any "
            "characters, as in orders.*"
        )
    return names


def search_words(text: str | None) -> SearchWords | None:
    """Return a full-text search; None if nothing is searched for. Any text is one."""
    return None if text is None else parse_words(text)


def where(texts: Sequence[str]) -> tuple[Condition, ...]:
    """Return conditions on JSON bodies, one for each time that the parameter came."""
    if len(texts) > _MOST_CONDITIONS:
        raise InputError(f"where: expected {_MOST_CONDITIONS} times at most")
    try:
        return tuple(map(parse_condition, texts))
    except ValueError as error:
        raise InputError(f"where: {error}") from error


def kind(text: str | None, words: Sequence[KindT]) -> KindT | None:
    """Return the one of `words` that a text is; None if the parameter is absent."""
    if text is None:
        return None
    for word in words:
        if word == text:
            return word
    raise InputError(f"kind: expected one of {', '.join(words)}")


def seq_cursor(seq: int) -> str:
    """Encode a place in the order of storing as an opaque word."""
    return _encode(str(seq))


def parse_seq_cursor(name: str, text: str | None) -> int | None:
    """Return the place that a cursor holds; `0` stands for the place before the first row."""
    if text is None:
        return None
    if text == "0":
        return 0
    digits = _decode(name, text)
    if not re.fullmatch(r"0|[1-9][0-9]{0,18}", digits) or int(digits) > _MAX_SEQ:
        raise _bad_cursor(name)
    return int(digits)


def topic_cursor(topic: str) -> str:
    """Encode a place in the list of topics as an opaque word."""
    return _encode(topic)


def parse_topic_cursor(name: str, text: str | None) -> str:
    """Return the place that a cursor holds; the start of the list if the parameter is absent."""
    return "" if text is None else _decode(name, text)


def for_excel(form: str, text: str | None) -> bool:
    """Whether an export is for Excel: `for=excel`, which only a CSV can be."""
    if text is not None and form != "csv":
        raise InputError("for: needs format=csv")
    return choice("for", text, ("any", "excel")) == "excel"


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


def _limit(text: str, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text) or not 1 <= int(text) <= most:
        raise InputError(f"limit: expected a whole number from 1 to {most}")
    return int(text)


def _encode(text: str) -> str:
    return base64.urlsafe_b64encode(_VERSION + text.encode()).decode().rstrip("=")


def _decode(name: str, text: str) -> str:
    """Undo _encode. Only its own spelling is accepted, so that a cursor has one spelling."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        value = raw[1:].decode("ascii")
    except (ValueError, binascii.Error) as error:
        raise _bad_cursor(name) from error
    if raw[:1] != _VERSION or _encode(value) != text:
        raise _bad_cursor(name)
    return value


def _bad_cursor(name: str) -> InputError:
    return InputError(f"{name}: not a cursor; use the `next` or `newest` of an earlier answer")
