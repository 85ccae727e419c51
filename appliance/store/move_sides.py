"""The two sides of a move: the database that is left and marked, and the one that is filled."""

from collections.abc import Generator, Iterable
from typing import Any, NamedTuple, Protocol

from appliance.store.moved_tables import MovedTable

#: A row's values in the order of its table's columns: None, int, float, str or bytes.
MovedRow = tuple[Any, ...]


class MoveMark(NamedTuple):
    """Where the rows of a database are now, and since when. No secret is in it."""

    target: str
    at: str

    @property
    def reason(self) -> str:
        """What to tell whoever wants to store something in the database that was left."""
        setting = "with" if self.target.startswith("postgresql:") else "without"
        return (
            f"its messages were moved to {self.target} at {self.at}, and it takes no "
            f"more; start {setting} APPLIANCE_DATABASE_URL, which messages in the queue wait for. "
            "To use this one again, without all that was stored there since: appliance export "
            "--undo"
        )

    def words(self, location: str) -> str:
        """Return the same with the name of the database."""
        return f"{location}: {self.reason}"


class MoveSource(Protocol):
    """A database that nobody else writes to while it is left. Its methods raise StoreError."""

    @property
    def location(self) -> str:
        """Where it is, for people."""

    @property
    def mark(self) -> MoveMark | None:
        """Where its rows were moved before; None where they were not."""

    def count(self, table: MovedTable) -> int:
        """Return how many rows a table has."""

    def rows(self, table: MovedTable) -> Generator[MovedRow, None, None]:
        """Yield all rows in the order of the key; to be closed."""

    def last_number(self, table: MovedTable) -> int:
        """Return the greatest number that a row of a numbered table ever had; 0: none."""

    def leave(self, mark: MoveMark) -> None:
        """Let it take no row any more, from now on and for everybody."""


class MoveTarget(Protocol):
    """A database that is filled: all of it is there after `commit`, and nothing before.

    Its methods raise StoreError.
    """

    @property
    def location(self) -> str:
        """Where it is, for people."""

    @property
    def changed(self) -> int:
        """How many rows had a text that this engine can't keep as it was."""

    def held(self) -> str:
        """Return in words what is in it already; an empty text where it may be filled."""

    def fitted(self, table: MovedTable, row: MovedRow) -> MovedRow:
        """Return a row as this engine can keep it."""

    def write(self, table: MovedTable, rows: Iterable[MovedRow]) -> None:
        """Fill a table."""

    def go_on_after(self, table: MovedTable, number: int) -> None:
        """Let the next row of a numbered table have a greater number than this."""

    def rows(self, table: MovedTable) -> Generator[MovedRow, None, None]:
        """Yield all rows that it has now, in the order of the key; to be closed."""

    def last_number(self, table: MovedTable) -> int:
        """Return the greatest number that a row of a numbered table ever had; 0: none."""

    def settle(self) -> None:
        """Do all that takes long, or can fail, before the commit; nothing is written after it."""

    def commit(self) -> None:
        """Let it be there, on disk."""
