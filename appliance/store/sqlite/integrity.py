"""SQLite's own check of a file, which an expression of someone's must not keep from being made.

The check computes generated columns and the indexes of expressions. Where such an expression of a
user's fails for a row (`body ->> '$.x'` of a body that is not JSON), the whole check ends with that
error, though nothing is damaged. So then each table is checked for itself, and of one that can't be
checked so, every row is read.
"""

from typing import Any, Final, NamedTuple

from appliance.store.sqlite import refusal
from appliance.store.sqlite.database import sqlite3

#: Reads each row of our tables to its end, and computes no column of anyone else's.
_READ: Final = {
    "messages": "SELECT sum(octet_length(id || topic) + octet_length(CAST(body AS BLOB)))",
    "dead_letters": "SELECT sum(octet_length(id || topic) + octet_length(CAST(body AS BLOB)))",
}


class Soundness(NamedTuple):
    """The outcome: SQLite's errors, and a sentence for each table that it could not check."""

    errors: list[str]
    unchecked: list[str]


def check(connection: Any, kind: str, most: int) -> Soundness:
    """Run `kind` (`integrity_check` or `quick_check`); report `most` errors.

    Raises the engine's error where the file can't be read, or is so damaged that the check ends.
    """
    try:
        return Soundness(_run(connection, f"PRAGMA {kind}({most})"), [])
    except sqlite3.Error as error:
        if not refusal.is_of_values(error):
            raise
    return _each(connection, kind, most)


def _each(connection: Any, kind: str, most: int) -> Soundness:
    errors: list[str] = []
    unchecked: list[str] = []
    tables = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0 ORDER BY name"
    ).fetchall()
    for (table,) in tables:
        quoted = table.replace('"', '""')
        try:
            errors += _run(connection, f'PRAGMA {kind}("{quoted}")')
        except sqlite3.Error as error:
            if not refusal.is_of_values(error):
                raise
            unchecked.append(
                f"an expression on the table {table} fails for some of its rows ({error}), so that "
                f"its structure could not be checked; its rows could be read"
            )
            if table in _READ:
                connection.execute(f"{_READ[table]} FROM {table} NOT INDEXED").fetchone()
    return Soundness(errors[:most], unchecked)


def _run(connection: Any, statement: str) -> list[str]:
    return [row[0] for row in connection.execute(statement).fetchall() if row[0] != "ok"]
