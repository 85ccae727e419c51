"""The rules of leases: when a message is handed out, comes back, and is given up. Pure.

A message of a subscription that nobody has acknowledged stands in one of three ways: leased to
somebody until a moment, waiting to be handed out from a moment on, or dead. An acknowledged one
stands nowhere. Times are milliseconds of Unix time.
"""

import hmac
import secrets
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final, Literal, NamedTuple

#: Seconds of a lease: the least, the most, and unless something else is asked for.
MIN_SECONDS: Final = 1
MAX_SECONDS: Final = 12 * 3600
DEFAULT_SECONDS: Final = 60
#: Bytes of randomness in the id of a lease: nobody guesses one.
_ID_BYTES: Final = 18
#: Digits of a row's number: the largest is below 2**63.
_SEQ_DIGITS: Final = 18
#: Attempts after which a message is given up: unless something else is asked for, and at most.
DEFAULT_ATTEMPTS: Final = 5
MAX_ATTEMPTS: Final = 1000
#: The reason where nobody said anything.
NOT_ACKNOWLEDGED: Final = "the lease ended without an acknowledgement"
#: Characters of a reason that is kept.
_REASON_LENGTH: Final = 500


class Standing(NamedTuple):
    """How one message stands with one subscription."""

    state: Literal["leased", "waiting", "dead"]
    #: How often it has been handed out.
    attempt: int
    #: The end of the lease, the moment from which on it can be handed out, or that of its death.
    until: int
    #: The id of the last lease; empty where none counts any more.
    lease: str = ""
    reason: str = ""


#: A message that was never handed out.
NEW: Final = Standing("waiting", 0, 0)


def new_lease_id(seq: int) -> str:
    """Return an id that nobody guesses, which leads to the message with this `seq`."""
    return f"{seq}.{secrets.token_urlsafe(_ID_BYTES)}"


def seq_of(lease: str) -> int | None:
    """Return the `seq` of the message that a lease's id leads to; None where it is no such id."""
    seq, dot, secret = lease.partition(".")
    if not (dot and secret and seq.isascii() and seq.isdigit() and len(seq) <= _SEQ_DIGITS):
        return None
    return int(seq)


def covers(patterns: Sequence[str] | None, topics: Sequence[str]) -> bool:
    """Whether every topic that `topics` match is matched by one of `patterns` too (None: all are).

    A `*` of a topic is an ordinary character here, which only a `*` of a pattern takes: whatever it
    stands for is then taken too.
    """
    if patterns is None:
        return True
    return all(any(fnmatchcase(topic, pattern) for pattern in patterns) for topic in topics)


def settle(standing: Standing, now: int, most: int) -> Standing:
    """Return how a message stands at `now`, given up after `most` attempts: leases end by time.

    Its last lease id stays known while it waits, so that a late acknowledgement still counts until
    somebody else has the message: that spares a repeat and can't skip one.
    """
    if standing.state != "leased" or standing.until > now:
        return standing
    return _back(standing, standing.until, NOT_ACKNOWLEDGED, most)


def grant(standing: Standing, now: int, seconds: int, lease: str) -> Standing | None:
    """Return the message leased once more; None where it can't be handed out now.

    `standing` is as `settle` returns it for the same moment.
    """
    if standing.state != "waiting" or standing.until > now:
        return None
    return Standing("leased", standing.attempt + 1, now + seconds * 1000, lease)


def may_acknowledge(standing: Standing, lease: str) -> bool:
    """Return whether `lease` is the last one of a message that is not dead."""
    if not standing.lease or standing.state == "dead":
        return False
    return hmac.compare_digest(standing.lease.encode(), lease.encode())


def refuse(standing: Standing, now: int, delay: int, reason: str, most: int) -> Standing:
    """Return the message given back, to be handed out `delay` seconds from now, or given up."""
    back = _back(standing, now + delay * 1000, reason[:_REASON_LENGTH], most)
    return back._replace(lease="", until=now if back.state == "dead" else back.until)


def extend(standing: Standing, now: int, seconds: int, lease: str) -> Standing | None:
    """Return the lease that ends `seconds` from now; None where it is over or another's."""
    held = standing.state == "leased" and standing.until > now
    if not held or not may_acknowledge(standing, lease):
        return None
    return standing._replace(until=now + seconds * 1000)


def put_back(standing: Standing, now: int) -> Standing | None:
    """Return a dead message as one that was never handed out; None where it is not dead."""
    return NEW._replace(until=now) if standing.state == "dead" else None


def _back(standing: Standing, due: int, reason: str, most: int) -> Standing:
    if standing.attempt >= most:
        return Standing("dead", standing.attempt, due, "", reason)
    return Standing("waiting", standing.attempt, due, standing.lease, reason)
