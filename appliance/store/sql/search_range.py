"""The part of the messages that a search goes through, and how long it may take."""

from typing import Final, NamedTuple

#: Seconds after which a search answers with what it has.
FIND_SECONDS: Final = 2.0
#: Seconds more for one row: a statement that takes longer is ended.
PATIENCE: Final = 1.0
#: The same for a search that must be quick.
QUICK_SECONDS: Final = 0.05
QUICK_PATIENCE: Final = 0.05
#: Topics that are read side by side. Where there are more, all messages are looked at in order.
MOST_TOPICS: Final = 100
#: Candidates between two looks at the clock: in a long body, words are looked for for milliseconds.
LOOK_EVERY: Final = 8


class SearchRange(NamedTuple):
    """Rows above `low` and below `high`, in order or newest first."""

    low: int
    high: int
    descending: bool

    @property
    def order(self) -> str:
        """The direction in SQL."""
        return "DESC" if self.descending else "ASC"

    def up_to(self, last: int) -> "SearchRange":
        """Return the begin of this range, with its `last` row."""
        return self._replace(low=last - 1) if self.descending else self._replace(high=last + 1)
