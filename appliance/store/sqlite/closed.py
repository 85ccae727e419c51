"""Closes a database whose rows were moved elsewhere: triggers refuse each write, and say why.

They hold for whoever has the file open already, for later processes, and for other people's
programs. It can still be read.
"""

from pathlib import Path
from typing import Any, Final

from appliance.errors import MovedError
from appliance.store.move_sides import MoveMark
from appliance.store.moved_tables import MOVED

#: How the names begin of what closes a database; of its table it is the whole name.
NAME: Final = "appliance_moved"
_IS_THERE: Final = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
_TRIGGERS: Final = (
    "SELECT name FROM sqlite_master WHERE type = 'trigger' AND substr(name, 1, ?) = ?"
)


def mark_of(connection: Any) -> MoveMark | None:
    """Return the mark of a database that was left; None of another one."""
    if connection.execute(_IS_THERE, (NAME,)).fetchone() is None:
        return None
    return MoveMark(*connection.execute(f"SELECT target, at FROM {NAME}").fetchone())  # noqa: S608


def refuse(connection: Any, path: Path) -> None:
    """Raise MovedError where the database was left."""
    if mark := mark_of(connection):
        raise MovedError(mark.words(str(path)))


def close(connection: Any, mark: MoveMark) -> None:
    """Let no table take, change or lose a row, once the transaction is committed."""
    connection.execute(f"CREATE TABLE {NAME} (target TEXT NOT NULL, at TEXT NOT NULL)")
    connection.execute(f"INSERT INTO {NAME} VALUES (?, ?)", mark)  # noqa: S608
    words = mark.reason.replace("'", "''").replace("\0", "")
    for table in MOVED:
        for event in ("INSERT", "UPDATE", "DELETE"):
            connection.execute(
                f"CREATE TRIGGER {NAME}_{table.name}_{event.lower()} BEFORE {event} "
                f"ON {table.name} BEGIN SELECT RAISE(ABORT, '{words}'); END"
            )


def reopen(connection: Any) -> MoveMark | None:
    """Let the tables take rows again; return the mark that is gone, None where there was none."""
    mark = mark_of(connection)
    if mark is not None:
        names = connection.execute(_TRIGGERS, (len(NAME) + 1, f"{NAME}_")).fetchall()
        for (name,) in names:
            connection.execute(f'DROP TRIGGER "{name}"')
        connection.execute(f"DROP TABLE {NAME}")
    return mark
