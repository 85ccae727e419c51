"""The grants of a token: its name, rights, topics, rate and end, as people write them. No I/O.

A pattern of topics is a topic, or a text in which `*` stands for any characters: `orders`,
`orders.*`, `*`. A rate is a number of requests in a span: `10/s`, `100/m`, `5000/h`.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from appliance.errors import InputError
from appliance.model import quantities, timestamps

#: The rights, from the least to the most: `admin` includes the others.
RIGHTS: Final = ("publish", "read", "admin")
#: Names that stand for someone else in logs and in the audit trail.
_RESERVED: Final = frozenset({"administrator", "anonymous"})
#: Characters of a name.
MAX_NAME: Final = 64
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_PATTERN: Final = re.compile(r"[a-z0-9._*-]{1,100}", re.ASCII)
_RATE: Final = re.compile(r"([1-9][0-9]{0,8})/([smhd])", re.ASCII)
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
#: Patterns of one token.
_MAX_PATTERNS: Final = 100


class Rate(NamedTuple):
    """A number of requests in a number of seconds; as many can come at once."""

    requests: int
    seconds: int


def check_name(name: str) -> str:
    """Return the name of a token or an inbox. Raises InputError where it is none."""
    if not _NAME.fullmatch(name):
        raise InputError(
            "name: expected 1 to 64 of letters, digits, dot, underscore and dash, the first a "
            "letter or a digit"
        )
    if name.lower() in _RESERVED:
        raise InputError(f"name: {name} is the name of someone else; choose another")
    return name


def check_rights(rights: Iterable[str]) -> tuple[str, ...]:
    """Return the rights in their order; `admin` includes the others. Raises InputError."""
    wanted = list(rights)
    if not wanted or any(word not in RIGHTS for word in wanted):
        raise InputError(f"rights: expected one or more of {', '.join(RIGHTS)}")
    return RIGHTS if "admin" in wanted else tuple(word for word in RIGHTS if word in wanted)


def check_patterns(patterns: Sequence[str], rights: Sequence[str]) -> tuple[str, ...]:
    """Return the patterns of topics; none stands for every topic. Raises InputError."""
    if len(patterns) > _MAX_PATTERNS:
        raise InputError(f"topics: expected {_MAX_PATTERNS} patterns at most")
    for pattern in patterns:
        if not isinstance(pattern, str) or not _PATTERN.fullmatch(pattern):
            raise InputError(
                f"topics: {str(pattern)[:50]!r} is neither a topic nor a pattern such as orders.*"
            )
    found = tuple(dict.fromkeys(patterns)) or ("*",)
    if "admin" in rights and found != ("*",):
        raise InputError(
            "topics: an administrator has every topic; leave the topics out, or the right admin"
        )
    return found


def rate(text: str) -> Rate:
    """Return the rate that a text says. Raises InputError."""
    match = _RATE.fullmatch(text)
    if not match:
        raise InputError("rate: expected requests in a time, such as 10/s, 100/m, 5000/h or 1000/d")
    return Rate(int(match[1]), _UNITS[match[2]])


def end(text: str, now: float, name: str = "expires") -> str:
    """Return a time to come, as the store writes it, from a span (`90d`) or a time.

    A time is ISO 8601, UTC if it names no zone; a day means its begin. Raises InputError.
    """
    words = f"{name}: expected a span such as 12h or 90d, or a time such as 2027-01-31T12:00:00Z"
    try:
        seconds = now + quantities.span(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError) as error:
            raise InputError(words) from error
        if seconds <= now:
            raise InputError(f"{name}: that time has passed") from None
    if seconds > timestamps.LAST_SECOND:
        raise InputError(words)
    return timestamps.timestamp(seconds)
