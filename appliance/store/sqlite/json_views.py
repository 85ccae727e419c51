"""Views with a column for each key of a topic's JSON bodies, for people who read with SQL.

A view of ours carries its columns in a comment. So it is told from one that someone else made, and
made again it keeps their order.
"""

# topics, paths and names are quoted; nothing else goes into the SQL

import contextlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from appliance.errors import ExistsError
from appliance.model.conditions import json_path
from appliance.model.view_columns import ViewColumn, view_columns
from appliance.store.sqlite.database import connect, sqlite3, store_error
from appliance.store.sqlite.where_sql import IS_JSON, sqlite_path

_MARK: Final = re.compile(r"/\* made by appliance view: (\{.*?\}) \*/", re.DOTALL)
_FIRST: Final = "seq, id AS message_id, received_at"


def make_view(path: Path, topic: str, name: str, keys: Iterable[str]) -> Sequence[ViewColumn]:
    """Make or remake the view of a topic, and return its columns.

    Raises ExistsError where something that is no view of ours for this topic has the name.
    """
    connection = connect(path, readonly=False)
    try:
        connection.execute("BEGIN IMMEDIATE")
        try:
            present = _present(connection, name)
            if present is not None and present["topic"] != topic:
                raise ExistsError(
                    f"the view {name} is one of the topic {present['topic']}; choose a --name"
                )
            columns = view_columns(keys, present["columns"] if present else ())
            connection.execute(f"DROP VIEW IF EXISTS {quoted(name)}")
            connection.execute(_statement(topic, name, columns))
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    finally:
        connection.close()
    return columns


def drop_view(path: Path, name: str) -> bool:
    """Remove a view of ours; return whether there was one. Raises ExistsError for another thing."""
    connection = connect(path, readonly=False)
    try:
        if _present(connection, name) is None:
            return False
        connection.execute(f"DROP VIEW {quoted(name)}")
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    finally:
        connection.close()
    return True


def quoted(name: str) -> str:
    """Return a name as SQL takes any name."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + value.replace("'", "''") + "'"


def _present(connection: Any, name: str) -> dict[str, Any] | None:
    """Return topic and columns of the view of ours with this name; None where there is nothing."""
    row = connection.execute(
        "SELECT type, sql FROM sqlite_master WHERE name = ? COLLATE NOCASE", (name,)
    ).fetchone()
    if row is None:
        return None
    found = _MARK.search(row[1] or "") if row[0] == "view" else None
    with contextlib.suppress(ValueError, KeyError, TypeError):
        mark: dict[str, Any] = json.loads(found[1]) if found else {}
        mark["columns"] = [ViewColumn(*each) for each in mark["columns"]]
        mark["topic"] = str(mark["topic"])
        return mark
    raise ExistsError(f"the {row[0]} {name} was not made by `appliance view`; choose a --name")


def _statement(topic: str, name: str, columns: Sequence[ViewColumn]) -> str:
    # In JSON a slash can be escaped, so that no key can end the comment.
    mark = json.dumps({"topic": topic, "columns": columns}).replace("/", "\\u002f")
    values = "".join(
        f",\n    CASE WHEN {IS_JSON} THEN json_extract(body, "
        f"{text(sqlite_path(json_path(column.path)))}) END AS {quoted(column.name)}"
        for column in columns
    )
    return (
        f"CREATE VIEW {quoted(name)} AS /* made by appliance view: {mark} */\n"
        f"SELECT {_FIRST}{values},\n    body\nFROM messages WHERE topic = {text(topic)}"
    )
