"""Deletions of messages: an order, how far it has come, and its selection. Any engine."""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

from appliance.model.conditions import parse_condition
from appliance.store.access_rows import Actor
from appliance.store.filters import Kind, MessageFilter

QUEUED: Final = "queued"
UNDER_WAY: Final = "under-way"
DONE: Final = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The messages that a deletion is for: one by its id, or those of a topic.

    `since` and `until` are times, `where` are conditions as people write them.
    """

    id: str | None = None
    topic: str | None = None
    since: str | None = None
    until: str | None = None
    kind: Kind | None = None
    where: tuple[str, ...] = ()

    @property
    def is_whole_topic(self) -> bool:
        """Whether it is for every message of a topic."""
        return self.topic is not None and self.members().keys() == {"topic"}

    def members(self) -> dict[str, Any]:
        """Return what is asked for, by name."""
        named = {name: getattr(self, name) for name in ("id", "topic", "since", "until", "kind")}
        members = {name: value for name, value in named.items() if value is not None}
        return members | ({"where": list(self.where)} if self.where else {})

    @classmethod
    def of(cls, members: dict[str, Any]) -> Self:
        """Undo `members`."""
        return cls(**{**members, "where": tuple(members.get("where", ()))})

    def filter(self) -> MessageFilter:
        """Return the filter of a selection by topic. Raises ValueError for no conditions."""
        return MessageFilter(
            topics=None if self.topic is None else (self.topic,),
            since=self.since,
            until=self.until,
            kind=self.kind,
            where=tuple(parse_condition(text) for text in self.where),
        )

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {' and '.join(value) if isinstance(value, list) else value}"
            for name, value in self.members().items()
        )


class DeletionRow(NamedTuple):
    """A deletion: messages received after `asked_at` stay. `messages` and `bytes` are gone so far.

    `status` is QUEUED until the messages sent before it are stored, then UNDER_WAY, then DONE.
    `kept` are rows that a trigger of someone's refused to delete.
    """

    id: str
    status: str
    selection: Selection
    asked_at: str
    by: Actor
    messages: int
    bytes: int
    kept: int
    ended_at: str | None


class Counted(NamedTuple):
    """A number of messages; `is_complete` is whether all were looked at in the time there was."""

    messages: int
    is_complete: bool
