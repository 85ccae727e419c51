"""Filters: which messages a reader looks for, whatever the engine."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, get_args

from appliance.model.conditions import Condition
from appliance.model.search_words import SearchWords
from appliance.store.rows import Page, StoredMessage

#: A body that is JSON, any other text, or bytes that are no text.
Kind = Literal["json", "text", "binary"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFilter:
    """Messages that fulfil all of this.

    `topics` and `patterns` are names or patterns, in which `*` is any characters: the topic must
    match one of `topics` (None: any), and one of `patterns`, which the caller may read (None: all).
    """

    topics: tuple[str, ...] | None = None
    patterns: tuple[str, ...] | None = None
    since: str | None = None
    until: str | None = None
    kind: Kind | None = None
    words: SearchWords | None = None
    where: tuple[Condition, ...] = ()

    @property
    def topic(self) -> str | None:
        """The one topic that is asked for by its name; None where there are several."""
        if self.topics is None or len(self.topics) != 1 or "*" in self.topics[0]:
            return None
        return self.topics[0]

    @property
    def nothing_but_topic(self) -> str | None:
        """The one topic, where nothing else than times is asked and no right is to be looked at."""
        if self.patterns is not None or self.kind or self.words or self.where:
            return None
        return self.topic

    @property
    def takes_all(self) -> bool:
        """Whether every message is wanted, so that the first ones that are looked at are found."""
        return self == _EVERY_MESSAGE


_EVERY_MESSAGE: Final = MessageFilter()


@dataclass(frozen=True, slots=True)
class Found(Page[StoredMessage]):
    """A page of what a filter finds.

    A search ends after some time, whether its page is full or not: `is_complete` is false then.
    With `more`, it goes on behind `reached`, which is the last row that it looked at. `newest` is
    the last row that was stored when it began.
    """

    reached: int
    newest: int
    is_complete: bool = True


FoundPieces = Iterator[list[StoredMessage]]
