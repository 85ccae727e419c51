"""Indexes of one value in a topic's JSON bodies, which conditions with `=` use.

They are indexes of an expression, and partial: a message of another topic costs nothing but the
look at its topic. Each carries its topic and its path in a comment.
"""

# ruff: noqa: S608  # topics, paths and names are quoted; nothing else goes into the SQL

import contextlib
import hashlib
import json
from typing import Any, Final

import psycopg

from appliance.errors import StoreError
from appliance.model.conditions import Condition
from appliance.model.json_path import JsonPath
from appliance.store.postgresql.connections import PostgresConnection, connect, store_error
from appliance.store.postgresql.where_sql import bounded_number, postgres_path
from appliance.store.sql.database import SqlConnection

_PREFIX: Final = "appliance_json_"
_MADE: Final = "made by appliance index: "
#: Characters of a value that an index has, with the letter of its kind: see `appliance_key`.
_KEY_CHARS: Final = 200
_LISTED: Final = f"""
    SELECT obj_description(indexrelid, 'pg_class') FROM pg_index
    WHERE indrelid = to_regclass('messages')
    AND obj_description(indexrelid, 'pg_class') LIKE '{_MADE}%'
"""
_IS_THERE: Final = """
    SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(?) AND indisvalid
"""


def make_index(url: str, topic: str, key: JsonPath) -> bool:
    """Make an index of a value; return whether there was none. Messages are stored meanwhile."""
    name = index_name(topic, key)
    connection = connect(url, readonly=False)
    try:
        if _is_there(connection, topic, key):
            return False
        connection.execute(f"DROP INDEX IF EXISTS {name}")  # one that was not finished
        connection.execute("SET lock_timeout = 0")
        try:
            connection.execute(
                f"CREATE INDEX CONCURRENTLY {name} ON messages ({expression(key)}, seq) "
                f"WHERE topic = {text(topic)}"
            )
        except psycopg.Error:
            with contextlib.suppress(psycopg.Error):
                connection.execute(f"DROP INDEX IF EXISTS {name}")
            raise
        mark = json.dumps({"topic": topic, "path": key.text})
        connection.execute(f"COMMENT ON INDEX {name} IS {text(_MADE + mark)}")
        connection.execute("ANALYZE messages")  # only then it is known what the index is worth
    except psycopg.Error as error:
        raise store_error(error, url) from error
    finally:
        connection.close()
    return True


def drop_index(url: str, topic: str, key: JsonPath) -> bool:
    """Remove the index of a value; return whether there was one."""
    connection = connect(url, readonly=False)
    try:
        was_there = _is_there(connection, topic, key)
        connection.execute(f"DROP INDEX IF EXISTS {index_name(topic, key)}")
    except psycopg.Error as error:
        raise store_error(error, url) from error
    finally:
        connection.close()
    return was_there


def json_indexes(url: str) -> list[tuple[str, str]]:
    """Return topic and path of each index that there is."""
    connection = connect(url, readonly=True)
    try:
        rows = connection.execute(_LISTED).fetchall()
    except psycopg.Error as error:
        raise store_error(error, url) from error
    finally:
        connection.close()
    marks = [json.loads(comment.removeprefix(_MADE)) for (comment,) in rows]
    return sorted((mark["topic"], mark["path"]) for mark in marks)


def lookup(
    connection: SqlConnection, topic: str, where: tuple[Condition, ...], values: dict[str, Any]
) -> list[str]:
    """Return the condition that leads to the index of the first condition that has one.

    It holds for every row that fulfils that one, and perhaps for others. Empty: there is no index.
    """
    for condition in where:
        if condition.operator != "=" or condition.in_meta or condition.word is not None:
            continue
        if not _is_there(connection, topic, condition.path):
            continue
        # The topic as a text, not as a parameter: else the index would not be known to be enough.
        tests = [f"{expression(condition.path)} = left('s' || :indexed, {_KEY_CHARS})"]
        values["indexed"] = condition.value
        if condition.number is not None:
            values["indexed_number"] = bounded_number(condition.number)
            tests.append(
                f"{expression(condition.path)} = "
                f"left('n' || trim_scale(:indexed_number::numeric), {_KEY_CHARS})"
            )
        return [f"topic = {text(topic)}", f"({' OR '.join(tests)})"]
    return []


def expression(key: JsonPath) -> str:
    """Return the SQL of a value, as an index and a look-up in it must both have it."""
    return f"appliance_key(body, {text(postgres_path(key))})"


def index_name(topic: str, key: JsonPath) -> str:
    """Return the name of the index of a value in a topic's bodies."""
    digest = hashlib.sha256(f"{topic}\0{postgres_path(key)}".encode()).hexdigest()
    return _PREFIX + digest[:16]


def text(value: str) -> str:
    """Return a text as SQL writes it. Raises StoreError where PostgreSQL can't have it."""
    if "\0" in value:
        raise StoreError("a text with a NUL can't be stored in PostgreSQL")
    return "'" + value.replace("'", "''") + "'"


def _is_there(connection: SqlConnection | PostgresConnection, topic: str, key: JsonPath) -> bool:
    return connection.execute(_IS_THERE, (index_name(topic, key),)).fetchone() is not None
