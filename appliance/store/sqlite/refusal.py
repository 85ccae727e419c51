"""Refusals: whether an error of SQLite's is a row's, a statement's, or the database's own.

The words of an error don't decide it, because a trigger can choose them. Evidence does: the name of
the error's code, and whether the statement can still be compiled. SQLite compiles a statement
together with all triggers that it fires, before it looks at a value. So a renamed column, a missing
table, a view in the table's place and a trigger that names a missing column or function fail there,
and a row's own fault never does.
"""

import re
from pathlib import Path
from typing import Any, Final

from appliance.errors import DamagedError
from appliance.store.sqlite.database import sqlite3, store_error

#: How SQLite's names of errors begin that come from the values it was given, or from what the
#: schema says of them. Any other error (a lock, a full disk, an I/O error, a damaged file) is the
#: database's own.
_OF_VALUES: Final = tuple(
    f"SQLITE_{name}" for name in ("CONSTRAINT", "TOOBIG", "MISMATCH", "RANGE", "MISUSE", "ERROR")
)
#: Triggers on messages that are not ours.
_OTHERS: Final = """
    SELECT 1 FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'messages'
    AND name NOT LIKE 'appliance!_%' ESCAPE '!' LIMIT 1
"""


def is_of_values(error: Exception) -> bool:
    """Whether a row's values, or the schema, can have caused an error of SQLite's.

    A value that could not be handed over (too large for SQLite's limit) has no code.
    """
    name = str(getattr(error, "sqlite_errorname", ""))
    return name.startswith(_OF_VALUES) or isinstance(error, sqlite3.InterfaceError)


def is_of_damage(error: Exception) -> bool:
    """Whether an error of SQLite's says that the file is damaged."""
    return isinstance(store_error(error, Path()), DamagedError)


def can_be_of_a_trigger(connection: Any, error: Exception) -> bool:
    """Whether a trigger of someone's can have caused an error of SQLite's.

    A full-text index of a user's that lacks a row refuses its deletion with the code and the words
    of a damaged file. Where nobody has a trigger, those mean what they say.
    """
    if is_of_values(error):
        return True
    name = str(getattr(error, "sqlite_errorname", ""))
    return name.startswith("SQLITE_CORRUPT") and bool(connection.execute(_OTHERS).fetchone())


def compile_error(connection: Any, *statements: str) -> str:
    """Return why one of the statements can't be compiled; empty where all can.

    Nothing is written, so a connection that only reads can ask too. Raises the engine's error where
    the database can't be read now.
    """
    # A prepared EXPLAIN never looks whether the schema has changed: so each schema has statements
    # of its own, and a read, which does look, comes first.
    version = connection.execute("PRAGMA schema_version").fetchone()[0]
    connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
    for statement in statements:
        numbered = [int(number) for number in re.findall(r"\?(\d+)", statement)]
        values = (None,) * (max(numbered) if numbered else statement.count("?"))
        try:
            connection.execute(f"EXPLAIN /* {version} */ {statement}", values).fetchall()
        except sqlite3.Error as error:
            if not is_of_values(error):
                raise
            return str(error)
    return ""
