"""Rows of replays: the selection, where it goes again, and how far it has come. Any engine."""

from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple, Self

from appliance.model.conditions import parse_condition
from appliance.model.search_words import parse_words
from appliance.model.seq_parts import SeqPart
from appliance.store.access_rows import Actor
from appliance.store.filters import Kind, MessageFilter
from appliance.store.rows import StoredMessage

#: States of a replay: it goes on by itself; somebody has stopped it; all of it is dealt with; it
#: can't go on.
RUNNING: Final = "running"
STOPPED: Final = "stopped"
DONE: Final = "done"
FAILED: Final = "failed"
STATES: Final = (RUNNING, STOPPED, DONE, FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySelection:
    """The messages that a replay is for, as people say it; all of it must hold.

    `topics` are patterns, `where` conditions, `since` and `until` times, `first_seq` and `last_seq`
    places that count themselves. `sql` is a query for numbers of messages.
    """

    topics: tuple[str, ...] | None = None
    where: tuple[str, ...] = ()
    kind: Kind | None = None
    q: str | None = None
    since: str | None = None
    until: str | None = None
    first_seq: int | None = None
    last_seq: int | None = None
    sql: str | None = None

    def members(self) -> dict[str, Any]:
        """Return what is asked for, by name, as JSON has it."""
        found: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in found.items()
            if value is not None and value != ()
        }

    @classmethod
    def of(cls, members: dict[str, Any]) -> Self:
        """Undo `members`."""
        lists: dict[str, Any] = {
            name: tuple(members[name]) for name in ("topics", "where") if name in members
        }
        return cls(**(members | lists))

    def filter(self) -> MessageFilter:
        """Return what it asks of each message, but for places. Raises ValueError."""
        return MessageFilter(
            topics=self.topics,
            kind=self.kind,
            words=None if self.q is None else parse_words(self.q),
            since=self.since,
            until=self.until,
            where=tuple(parse_condition(text) for text in self.where),
        )

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {' and '.join(value) if isinstance(value, list) else value}"
            for name, value in self.members().items()
        )


class ReplayChoice(NamedTuple):
    """What a selection comes to now: how many messages, and between which places.

    They lie behind `after` and up to `until`. `is_complete` is whether all were counted in the time
    there was. `parts` are the numbers that a query found; empty for any other selection.
    """

    messages: int
    is_complete: bool
    after: int
    until: int
    parts: tuple[SeqPart, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRow:
    """A replay. `id` names it; `target` is the name of an endpoint, or a topic.

    `endpoint` is the endpoint's number; None: it goes to a topic. All that is selected behind
    `after` and up to `cursor` is dealt with; `until` is fixed when it is made, so that it ends.
    `messages` were selected then; None: they were not counted to the end. `sent` were delivered, or
    are rows of the topic; `gone` were deleted before their turn. `waiting` and `given_up` are those
    whose delivery failed so far. `reason` says in words why it FAILED.
    """

    id: str
    target: str
    selection: ReplaySelection
    endpoint: int | None = None
    state: str = RUNNING
    reason: str = ""
    after: int = 0
    until: int = 0
    cursor: int = 0
    messages: int | None = None
    sent: int = 0
    gone: int = 0
    waiting: int = 0
    given_up: int = 0
    created_at: str
    changed_at: str
    ended_at: str | None = None
    by: Actor


class ReplayWork(NamedTuple):
    """A running replay, as whoever does it needs it.

    `wanted` is None where the numbers of its messages are kept.
    """

    id: str
    endpoint: int | None
    target: str
    wanted: MessageFilter | None
    cursor: int
    until: int


class ReplayPart(NamedTuple):
    """Messages of a replay: all that are selected up to `end`, but for those that are `gone`."""

    rows: list[StoredMessage]
    end: int
    gone: int = 0


@dataclass(slots=True)
class ReplayStanding:
    """How the replay with this id to an endpoint stands; counts are added.

    `cursor` is None where only messages that had waited were delivered.
    """

    id: str
    cursor: int | None = None
    sent: int = 0
    gone: int = 0
    is_done: bool = False
