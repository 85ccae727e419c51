"""Closes a database whose rows were moved elsewhere: triggers refuse each write, and say why.

The error is the one of a server that takes no writes, so that whoever stores holds what it has. The
database can still be read.
"""

from typing import Any, Final

from appliance.errors import MovedError
from appliance.store.move_sides import MoveMark
from appliance.store.moved_tables import MOVED
from appliance.store.postgresql.connections import location

_NAME: Final = "appliance_moved"
#: What is closed: also the row whose lock is the order of storing.
TABLES: Final = ("shards", *(table.name for table in MOVED))
_IS_THERE: Final = f"SELECT to_regclass('{_NAME}') IS NOT NULL"
_TABLE: Final = (
    f"CREATE TABLE {_NAME} (target text NOT NULL, at text NOT NULL, words text NOT NULL)"
)
_FUNCTION: Final = f"""
    CREATE FUNCTION {_NAME}() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION USING ERRCODE = 'read_only_sql_transaction',
            MESSAGE = (SELECT words FROM {_NAME});
    END $$
"""  # noqa: S608  # ours


def mark_of(connection: Any) -> MoveMark | None:
    """Return the mark of a database that was left; None of another one."""
    if not connection.execute(_IS_THERE).fetchone()[0]:
        return None
    return MoveMark(*connection.execute(f"SELECT target, at FROM {_NAME}").fetchone())  # noqa: S608


def refuse(connection: Any, url: str) -> None:
    """Raise MovedError where the database was left."""
    if mark := mark_of(connection):
        raise MovedError(mark.words(location(url)))


def close(connection: Any, mark: MoveMark) -> None:
    """Let no table take, change or lose a row, once the transaction is committed."""
    connection.execute(_TABLE)
    connection.execute(_FUNCTION)
    connection.execute(
        f"INSERT INTO {_NAME} VALUES (?, ?, ?)",  # noqa: S608
        (*mark, mark.reason),
    )
    for table in TABLES:
        connection.execute(
            f"CREATE TRIGGER {_NAME} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {_NAME}()"
        )


def reopen(connection: Any) -> MoveMark | None:
    """Let the tables take rows again; return the mark that is gone, None where there was none."""
    mark = mark_of(connection)
    if mark is not None:
        connection.execute(f"DROP FUNCTION {_NAME}() CASCADE")  # its triggers go with it
        connection.execute(f"DROP TABLE {_NAME}")
    return mark
