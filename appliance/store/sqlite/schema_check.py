"""Compares the schema that is there with ours: what is damaged, and what is someone's own.

Tables, columns, indexes, triggers and views that other people add are theirs and no damage. Our
tables are compared column by column and not by their text, which changes with every column that is
added.
"""

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from appliance.store.sqlite import closed, migrations
from appliance.store.sqlite.database import sqlite3

_OBJECTS: Final = """
    SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master
    WHERE name NOT LIKE 'sqlite!_%' ESCAPE '!' ORDER BY type, name
"""
_COLUMNS: Final = 'SELECT name, upper(type), "notnull", dflt_value, pk, hidden FROM '
#: SQLite's number of a column that exists, not generated from others.
_PLAIN: Final = 0


class _Object(NamedTuple):
    kind: str
    name: str
    table: str
    sql: str


class Schema(NamedTuple):
    """The outcome in words, and the statements that make anew what is gone, each with its name."""

    wrong: list[str]
    yours: list[str]
    repairs: dict[str, str]


def examine(connection: Any) -> Schema:
    """Compare the schema of the database with this program's. Only reads."""
    ours = migrations.new_database()
    try:
        return _compare(ours, connection)
    finally:
        ours.close()


def repair(connection: Any) -> list[str]:
    """Make our indexes and triggers that are gone anew; return their kinds and names.

    Raises the engine's error where one can't be made.
    """
    repairs = examine(connection).repairs
    for statement in repairs.values():
        connection.execute(statement)
    return list(repairs)


def _compare(ours: Any, connection: Any) -> Schema:
    wanted, present = ({(o.kind, o.name): o for o in _objects(each)} for each in (ours, connection))
    wrong: list[str] = []
    yours: list[str] = []
    repairs: dict[str, str] = {}
    for (kind, name), one in sorted(wanted.items()):
        there = present.get((kind, name))
        if there is None:
            wrong.append(f"the {kind} {name} is gone")
            if kind != "table" and ("table", one.table) in present:
                repairs[f"{kind} {name}"] = one.sql
        elif kind == "table":
            _compare_table(ours, connection, one, there, wrong, yours)
        elif _plain(one.sql) != _plain(there.sql):
            wrong.append(f"the {kind} {name} is changed")
    yours += _others(connection, wanted, present)
    return Schema(wrong, yours, repairs)


def _objects(connection: Any) -> list[_Object]:
    return [_Object._make(row) for row in connection.execute(_OBJECTS)]


def _compare_table(  # two databases, the table in both, two lists
    ours: Any, connection: Any, one: _Object, there: _Object, wrong: list[str], yours: list[str]
) -> None:
    name = one.name
    wanted, present = (_columns(each, name) for each in (ours, connection))
    for column, shape in wanted.items():
        if column not in present:
            wrong.append(f"the column {column} of the table {name} is gone")
        elif present[column] != shape:
            wrong.append(f"the column {column} of the table {name} is changed")
    for column in present.keys() - wanted.keys():
        _, required, default, _, hidden = present[column]
        if required and default is None and hidden == _PLAIN:
            wrong.append(
                f"your column {column} of the table {name} is NOT NULL and has no default: no row "
                "can be stored"
            )
        else:
            yours.append(f"the column {column} of the table {name}")
    wrong += [
        f"{', '.join(columns)} of the table {name} must be unique, and is not"
        for columns in _unique(ours, name) - _unique(connection, name)
    ]
    if "AUTOINCREMENT" in one.sql.upper() and "AUTOINCREMENT" not in there.sql.upper():
        wrong.append(f"the table {name} has lost its AUTOINCREMENT: numbers could be used again")
    if _plain(there.sql).count("check(") > _plain(one.sql).count("check("):
        yours.append(f"a CHECK constraint of the table {name}")
    if connection.execute("SELECT count(*) FROM pragma_foreign_key_list(?)", (name,)).fetchone()[0]:
        yours.append(f"a foreign key of the table {name}")


def _columns(connection: Any, table: str) -> dict[str, tuple[Any, ...]]:
    rows = connection.execute(f"{_COLUMNS} pragma_table_xinfo(?)", (table,)).fetchall()
    return {row[0]: tuple(row[1:]) for row in rows}


def _unique(connection: Any, table: str) -> set[tuple[str, ...]]:
    """Return the columns of each unique index of a table that has no condition."""
    names = connection.execute(
        'SELECT name FROM pragma_index_list(?) WHERE "unique" AND NOT partial', (table,)
    ).fetchall()
    return {
        tuple(
            str(column)
            for (column,) in connection.execute(
                "SELECT name FROM pragma_index_info(?) ORDER BY seqno", (index,)
            )
        )
        for (index,) in names
    }


def _others(
    connection: Any,
    wanted: dict[tuple[str, str], _Object],
    present: dict[tuple[str, str], _Object],
) -> Iterator[str]:
    """Name what is not ours; what belongs to a table of someone's is named with that table."""
    tables = {name for kind, name in wanted if kind == "table"}
    shadows = _shadows(connection)
    for (kind, name), there in sorted(present.items()):
        if (kind, name) in wanted or name in shadows or name.startswith(closed.NAME):
            continue
        if kind == "index" and there.table in tables:
            unique = re.match(r"\s*CREATE\s+UNIQUE\b", there.sql, re.IGNORECASE)
            yield f"the index {name} of the table {there.table}" + (
                ", which is unique and can refuse messages" if unique else ""
            )
        elif kind == "trigger" and there.table in tables:
            yield f"the trigger {name} on the table {there.table}"
        elif kind in ("table", "view"):
            yield f"the {kind} {name}"


def _shadows(connection: Any) -> set[str]:
    """Return the tables in which virtual tables, such as a full-text index, keep their data."""
    try:
        rows = connection.execute(
            "SELECT name FROM pragma_table_list WHERE type = 'shadow'"
        ).fetchall()
    except sqlite3.Error:  # a virtual table of a module that is not here
        return set()
    return {row[0] for row in rows}


def _plain(sql: str) -> str:
    """Return a statement without comments, quotes and the shape of its white space."""
    text = re.sub(r"--[^\n]*|/\*.*?\*/", " ", sql, flags=re.DOTALL)
    text = re.sub(r"\bIF NOT EXISTS\b|[\"`\[\]]", "", text, flags=re.IGNORECASE)
    return re.sub(r"\s+", " ", re.sub(r"\s*([(),;=+-])\s*", r"\1", text)).strip().lower()
