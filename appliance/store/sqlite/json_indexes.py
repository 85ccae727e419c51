"""Indexes of one value in a topic's JSON bodies, which conditions with `=` use.

They are indexes of an expression, and partial: a message of another topic costs nothing but the
look at its topic. A column for each would show in every `SELECT *`.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from appliance.model.conditions import Condition
from appliance.model.json_path import JsonPath
from appliance.store.sqlite.database import connect, sqlite3, store_error
from appliance.store.sqlite.json_views import text
from appliance.store.sqlite.where_sql import IS_JSON, sqlite_path

_PREFIX: Final = "appliance_json_"
_MARK: Final = re.compile(r"/\* made by appliance index: (\{.*?\}) \*/", re.DOTALL)


class JsonIndex(NamedTuple):
    """An index: of which topic, and of which value."""

    topic: str
    path: str


class IndexPlace(NamedTuple):
    """A part of an index: what to read, the condition of its rows, and the value that it binds."""

    source: str
    condition: str
    indexed: str | int | float


def make_index(path: Path, topic: str, key: JsonPath) -> bool:
    """Make an index of a value; return whether there was none. No message is stored meanwhile."""
    connection = connect(path, readonly=False)
    try:
        if _is_there(connection, topic, key):
            return False
        mark = json.dumps({"topic": topic, "path": key.text}).replace("/", "\\u002f")
        connection.execute(
            f"CREATE INDEX {index_name(topic, key)} ON messages "
            f"/* made by appliance index: {mark} */ ({expression(key)}) WHERE topic = {text(topic)}"
        )
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    finally:
        connection.close()
    return True


def drop_index(path: Path, topic: str, key: JsonPath) -> bool:
    """Remove the index of a value; return whether there was one."""
    connection = connect(path, readonly=False)
    try:
        was_there = _is_there(connection, topic, key)
        connection.execute(f"DROP INDEX IF EXISTS {index_name(topic, key)}")
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    finally:
        connection.close()
    return was_there


def json_indexes(path: Path) -> list[JsonIndex]:
    """Return the indexes that there are."""
    connection = connect(path, readonly=True)
    try:
        rows = connection.execute(
            "SELECT sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'messages' "
            "ORDER BY name"
        ).fetchall()
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    finally:
        connection.close()
    return sorted(_marks(sql for (sql,) in rows))


def lookups(connection: Any, topic: str, where: tuple[Condition, ...]) -> list[IndexPlace]:
    """Return the places to look into for the first condition that has an index.

    Together they hold every row that fulfils it, and perhaps others. Empty: there is no index.
    """
    for condition in where:
        if condition.operator != "=" or condition.in_meta or condition.word is not None:
            continue
        if not _is_there(connection, topic, condition.path):
            continue
        values: list[Any] = [condition.value]
        if (number := condition.number) is not None:
            is_small = number.lstrip("-").isdigit() and -(2**63) <= int(number) < 2**63
            values.append(int(number) if is_small else float(number))
        source = f"messages INDEXED BY {index_name(topic, condition.path)}"
        place = f"topic = {text(topic)} AND {expression(condition.path)} = :indexed"
        return [IndexPlace(source, place, value) for value in values]
    return []


def expression(key: JsonPath) -> str:
    """Return the SQL of a value, as an index and a look-up in it must both have it."""
    return f"CASE WHEN {IS_JSON} THEN json_extract(body, {text(sqlite_path(key))}) END"


def index_name(topic: str, key: JsonPath) -> str:
    """Return the name of the index of a value in a topic's bodies."""
    digest = hashlib.sha256(f"{topic}\0{sqlite_path(key)}".encode()).hexdigest()
    return _PREFIX + digest[:16]


def _is_there(connection: Any, topic: str, key: JsonPath) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'index' AND name = ?"
    return connection.execute(query, (index_name(topic, key),)).fetchone() is not None


def _marks(statements: Iterable[str | None]) -> Iterator[JsonIndex]:
    for sql in statements:
        if found := _MARK.search(sql or ""):
            mark = json.loads(found[1])
            yield JsonIndex(mark["topic"], mark["path"])
