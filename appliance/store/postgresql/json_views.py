"""Views with a column for each key of a topic's JSON bodies, for people who read with SQL.

A view of ours carries its topic and its columns in its comment. So it is told from one that someone
else made, and made again it keeps their order. Values are texts: JSON has other kinds of them.
"""

# topics, paths and names are quoted; nothing else goes into the SQL

import contextlib
import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

import psycopg

from appliance.errors import ExistsError
from appliance.model.conditions import json_path
from appliance.model.view_columns import ViewColumn, view_columns
from appliance.store.postgresql.connections import PostgresConnection, connect, store_error
from appliance.store.postgresql.json_indexes import text
from appliance.store.postgresql.where_sql import postgres_path

_MADE: Final = "made by appliance view: "
_FIRST: Final = "seq, id AS message_id, received_at"
#: Bytes of a name that PostgreSQL keeps.
_NAME_BYTES: Final = 63
_PRESENT: Final = """
    SELECT relkind::text, obj_description(oid, 'pg_class') FROM pg_class
    WHERE lower(relname) = lower(?) AND relnamespace = current_schema()::regnamespace
"""
_KINDS: Final = {"r": "table", "v": "view", "i": "index", "S": "sequence", "m": "view"}


def make_view(url: str, topic: str, name: str, keys: Iterable[str]) -> Sequence[ViewColumn]:
    """Make or remake the view of a topic, and return its columns.

    Raises ExistsError where something that is no view of ours for this topic has the name.
    """
    connection = connect(url, readonly=False)
    try:
        connection.execute("BEGIN")
        present = _present(connection, name)
        if present is not None and present["topic"] != topic:
            raise ExistsError(
                f"the view {name} is one of the topic {present['topic']}; choose a --name"
            )
        columns = view_columns(keys, present["columns"] if present else ())
        connection.execute(f"DROP VIEW IF EXISTS {quoted(name)}")
        connection.execute(_statement(topic, name, columns))
        mark = json.dumps({"topic": topic, "columns": columns})
        connection.execute(f"COMMENT ON VIEW {quoted(name)} IS {text(_MADE + mark)}")
        connection.execute("COMMIT")
    except psycopg.Error as error:
        raise store_error(error, url) from error
    finally:
        connection.close()  # what is not committed is undone
    return columns


def drop_view(url: str, name: str) -> bool:
    """Remove a view of ours; return whether there was one. Raises ExistsError for another thing."""
    connection = connect(url, readonly=False)
    try:
        if _present(connection, name) is None:
            return False
        connection.execute(f"DROP VIEW {quoted(name)}")
    except psycopg.Error as error:
        raise store_error(error, url) from error
    finally:
        connection.close()
    return True


def quoted(name: str) -> str:
    """Return a name as SQL takes any name."""
    return '"' + _cut(name).replace('"', '""') + '"'


def _cut(name: str, most: int = _NAME_BYTES) -> str:
    """Return the begin of a name, as PostgreSQL keeps it."""
    return name.replace("\0", "").encode()[:most].decode(errors="ignore")


def _names(columns: Sequence[ViewColumn]) -> list[str]:
    """Return names of columns; two that are the same once they are cut get a number."""
    names: dict[str, None] = {}
    for column in columns:
        name, number = _cut(column.name), 1
        while name in names:
            number += 1
            name = f"{_cut(column.name, _NAME_BYTES - 5)}_{number}"
        names[name] = None
    return list(names)


def _present(connection: PostgresConnection, name: str) -> dict[str, Any] | None:
    """Return topic and columns of the view of ours with this name; None where there is nothing."""
    row = connection.execute(_PRESENT, (_cut(name),)).fetchone()
    if row is None:
        return None
    kind, comment = row
    if kind == "v" and (comment or "").startswith(_MADE):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            mark: dict[str, Any] = json.loads(comment.removeprefix(_MADE))
            mark["columns"] = [ViewColumn(*each) for each in mark["columns"]]
            mark["topic"] = str(mark["topic"])
            return mark
    raise ExistsError(
        f"the {_KINDS.get(kind, 'thing')} {name} was not made by `appliance view`; choose a --name"
    )


def _statement(topic: str, name: str, columns: Sequence[ViewColumn]) -> str:
    values = "".join(
        f",\n    appliance_value(body, {text(postgres_path(json_path(column.path)))}) #>> '{{}}' "
        f"AS {quoted(name_of)}"
        for column, name_of in zip(columns, _names(columns), strict=True)
    )
    return (
        f"CREATE VIEW {quoted(name)} AS\n"
        f"SELECT {_FIRST}{values},\n    body\nFROM messages WHERE topic = {text(topic)}"
    )
