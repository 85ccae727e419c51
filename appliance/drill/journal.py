"""A client's own record, outside the appliance, of the messages it sent and the answers it got.

A message's text is made from its topic and its number, and each topic has one sender. So the
journal needs no copies: a byte for the fate of a message and sixteen for its id, and an hour at
full speed fits into memory.
"""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

#: Messages differ in length by up to this many bytes.
_LONGEST_FILLING: Final = 400
_ID_BYTES: Final = 16


class Fate(IntEnum):
    """The fate of a message as its client knows it; the highest of its attempts counts."""

    #: not there: it was refused, or the sender never got to it
    REFUSED = 1
    #: no answer, or "not confirmed": it may be there or not
    UNKNOWN = 2
    #: answered 202 or 201
    ACCEPTED = 3


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request: messages `first` to `first + count - 1` of a topic, and the answer.

    `status` is 0 where there was no answer. `problem` is the last word of the answer's type,
    `detail` the answer in words; `headers` have names in lower case. Times are seconds, `began` is
    on the monotonic clock.
    """

    topic: str
    first: int
    count: int
    status: int
    ids: tuple[str, ...]
    began: float
    seconds: float
    headers: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    detail: str = ""

    @property
    def id(self) -> str | None:
        """The id of its only message, where it was accepted."""
        return self.ids[0] if self.ids else None

    @property
    def fate(self) -> Fate:
        """The fate of its messages."""
        if self.status in (201, 202):
            return Fate.ACCEPTED
        if self.status == 503 and self.problem == "refused":
            return Fate.REFUSED
        return Fate.UNKNOWN


def text(topic: str, number: int) -> str:
    """Return the body of a topic's message: unique, and of a length that varies."""
    return f"{topic} {number} " + "." * (number * 37 % _LONGEST_FILLING)


def number_of(topic: str, body: str) -> int | None:
    """Return which message of the topic a body is; None where it is none of ours, or changed."""
    parts = body.split(" ", 2)
    if len(parts) != 3 or not parts[1].isascii() or not parts[1].isdigit():
        return None
    number = int(parts[1])
    return number if text(topic, number) == body else None


class Sheet:
    """The journal of one topic. One sender writes it."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self._fates = bytearray()
        self._ids = bytearray()
        #: 1 where a message went in the same request as the one before it
        self._joined = bytearray()

    def __len__(self) -> int:
        return len(self._fates)

    def note(self, attempt: Attempt) -> int:
        """Note an attempt; return how many messages it made accepted that were not before."""
        fresh = 0
        for place in range(attempt.count):
            number = attempt.first + place
            if number == len(self._fates):
                self._fates.append(0)
                self._ids += bytes(_ID_BYTES)
                self._joined.append(int(place > 0))
            if attempt.fate is Fate.ACCEPTED:
                fresh += self._fates[number] != Fate.ACCEPTED
                if attempt.ids:
                    at = number * _ID_BYTES
                    self._ids[at : at + _ID_BYTES] = uuid.UUID(attempt.ids[place]).bytes
            self._fates[number] = max(self._fates[number], attempt.fate)
        return fresh

    def fate(self, number: int) -> Fate | None:
        """Return the fate of a message; None where it was never sent."""
        return Fate(self._fates[number]) if number < len(self._fates) else None

    def id(self, number: int) -> str:
        """Return the id that an accepted message was given; empty where its door tells none."""
        at = number * _ID_BYTES
        found = bytes(self._ids[at : at + _ID_BYTES])
        return str(uuid.UUID(bytes=found)) if any(found) else ""

    def joined(self, number: int) -> bool:
        """Whether a message went in the same request as the one before it."""
        return bool(self._joined[number])


class Journal:
    """All topics' sheets, and counts of the whole that can be read while senders write."""

    def __init__(self) -> None:
        self.sheets: dict[str, Sheet] = {}
        self.accepted = 0  # messages
        self.answers: Counter[int] = Counter()  # requests by status; 0: no answer
        self.longest_outage = 0.0  # seconds between two acceptances, at most
        self._last_accepted: float | None = None
        self._lock = threading.Lock()

    @property
    def sent(self) -> int:
        """How many messages were sent, once or more often."""
        return sum(len(sheet) for sheet in list(self.sheets.values()))

    def sheet(self, topic: str) -> Sheet:
        """Return the sheet of a topic, made now if there is none."""
        return self.sheets.setdefault(topic, Sheet(topic))

    def begin(self) -> None:
        """Begin the time of sending: the time until the first 202 counts as an outage."""
        self._last_accepted = self._last_accepted or time.monotonic()

    def end(self) -> None:
        """End the time of sending."""
        with self._lock:
            self._step(time.monotonic())
            self._last_accepted = None

    def note(self, attempt: Attempt) -> None:
        """Note one attempt. Attempts of a topic come from one thread, in the order of sending."""
        fresh = self.sheet(attempt.topic).note(attempt)
        with self._lock:
            self.accepted += fresh
            self.answers[attempt.status] += 1
            if attempt.fate is Fate.ACCEPTED:
                self._step(attempt.began + attempt.seconds)

    @property
    def outage(self) -> float:
        """Seconds since something was accepted; 0 where nothing is being sent."""
        last = self._last_accepted
        return 0.0 if last is None else time.monotonic() - last

    def _step(self, now: float) -> None:
        if self._last_accepted is not None:
            self.longest_outage = max(self.longest_outage, now - self._last_accepted)
            self._last_accepted = max(now, self._last_accepted)
