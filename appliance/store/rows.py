"""Rows and pages, as every engine of the store returns them."""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

#: Bytes of bodies on one page. They bound the memory that one request can make the API hold.
PAGE_BYTES: Final = 8 * 2**20
#: Bytes of a body that is shown with its dead letter; a longer one is fetched on its own. Another
#: AMQP client can publish bodies a hundred times longer than the appliance accepts.
SHOWN_BYTES: Final = PAGE_BYTES


class StoredMessage(NamedTuple):
    """One stored message. `body` holds its bytes; `text` is true where they are UTF-8 text.

    `content_type` is the media type that its sender named, `meta` JSON text (see `model.meta`).
    """

    seq: int
    id: str
    topic: str
    received_at: str
    text: int
    body: bytes
    content_type: str | None
    meta: str | None


class EarlierMessage(NamedTuple):
    """A stored message as a retry with the same idempotency key is compared with it.

    Of one that was handled there is the SHA-256 of its body, and no body.
    """

    id: str
    received_at: str
    body: str | bytes | None
    digest: bytes | None = None


class Topic(NamedTuple):
    """The counters of one topic; `bytes` are those of the bodies."""

    topic: str
    messages: int
    bytes: int
    first_at: str
    last_at: str


class Letter(NamedTuple):
    """One dead letter: `reason` is a stable word, `error` explains it to people.

    `body` is None where its `size` in bytes is more than SHOWN_BYTES.
    """

    seq: int
    id: str
    topic: str
    received_at: str
    dead_at: str
    reason: str
    error: str
    size: int
    body: bytes | None
    content_type: str | None
    meta: str | None


@dataclass(frozen=True, slots=True)
class Totals:
    """The size of the store: counts, bytes of bodies, and bytes of the database on its disk."""

    messages: int
    bytes: int
    topics: int
    dead_letters: int
    last_at: str | None
    database_bytes: int


@dataclass(frozen=True, slots=True)
class QuarantineTotals:
    """The quarantine: dead letters within a budget of their own.

    `bytes` are those of bodies, meta and errors, and at least 1 KiB a letter. `pushed_out` and
    `expired` count the letters that had to go again, since the database was made.
    """

    letters: int
    bytes: int
    oldest_at: str | None
    pushed_out: int
    expired: int


class Engine(NamedTuple):
    """The database program: its name in lower case, and its version."""

    name: str
    version: str


class Numbered(Protocol):
    """A row with its place in the order of storing, and a body."""

    @property
    def seq(self) -> int:
        """Place in the order of storing; never used again."""

    @property
    def body(self) -> bytes | None:
        """Bytes of the body; None where they are left out."""


NumberedT = TypeVar("NumberedT", bound=Numbered)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Rows with a `seq` below `before` and above `after`.

    With `after` they come oldest first, so that a reader who goes on after the last one skips
    none; otherwise newest first.
    """

    before: int | None = None
    after: int | None = None


@dataclass(frozen=True, slots=True)
class Window(Span):
    """Messages of a topic: those of the span that came at `since` or later, and before `until`."""

    topic: str
    since: str | None = None
    until: str | None = None


@dataclass(frozen=True, slots=True)
class Choice(Span):
    """Dead letters of the span that have this reason and topic; None: any.

    With `patterns` their topic must match one of them: a text in which `*` is any characters.
    """

    reason: str | None = None
    topic: str | None = None
    patterns: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicChoice:
    """Topics in an order: by `topic`, `messages`, `bytes` or `last`, and by name where equal.

    `after` is the value and the name after which they begin, `part` a part of each name. With
    `patterns`, those that match one of them.
    """

    sort: str = "topic"
    descending: bool = False
    after: tuple[str | int, str] | None = None
    part: str = ""
    patterns: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Followed:
    """Messages that are followed: of this topic (None: of any), whose topic matches the patterns.

    `patterns` are groups; a topic must match one of each. A pattern is a text in which `*` is any
    characters. `since` leaves out what was received before it.
    """

    topic: str | None = None
    patterns: tuple[tuple[str, ...], ...] = ()
    since: str | None = None

    @property
    def is_any(self) -> bool:
        """Whether messages of every topic are followed."""
        return self.topic is None and not self.patterns

    def takes(self, topic: str) -> bool:
        """Whether messages of this topic are followed."""
        if self.topic is not None and topic != self.topic:
            return False
        return all(any(fnmatchcase(topic, pattern) for pattern in group) for group in self.patterns)


class Stretch(NamedTuple):
    """Messages in the order of storing, and the place up to which they are all that there is."""

    rows: list[StoredMessage]
    end: int


class Preview(NamedTuple):
    """The begin of a message: `kind` is `json`, `text` or `binary`, `size` the body's in bytes."""

    seq: int
    id: str
    topic: str
    received_at: str
    kind: str
    size: int
    start: bytes


class Glance(NamedTuple):
    """How many messages of each topic there are up to a place, and the newest, newest first."""

    counts: dict[str, int]
    newest: list[Preview]
    end: int


@dataclass(frozen=True, slots=True)
class Page(Generic[NumberedT]):
    """Some rows of a span, and whether the span had more when it was read."""

    rows: list[NumberedT]
    more: bool


@dataclass
class Rescued:
    """A sound copy of what could be read of a damaged database.

    `rows` counts what was read, by table, and `lost` what is known to be lost. Of the tables in
    `unknown` more may be lost. `ids` are those of the first lost messages.
    """

    path: Path
    rows: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
