"""The process that runs one query of somebody's own: it reads, briefly, and no secret.

SQLite itself holds the bounds: an authorizer lets it select only, and not from the tables that say
who may do what; it looks at the clock some hundred times a second; its memory has an end. The query
comes by standard input, and the numbers that it finds go out by standard output, eight bytes each.
"""

# ruff: noqa: S608  # the query is its asker's own, on a connection that can only read

import sys
import time
from array import array
from pathlib import Path
from typing import Any, Final

from appliance.errors import InputError, StoreError
from appliance.machine import priority
from appliance.model.topics import CANARY_TOPIC
from appliance.store.own_queries import EXAMPLE, SECRET_TABLES
from appliance.store.sqlite import where_sql
from appliance.store.sqlite.database import connect, sqlite3, store_error

#: Exit codes: the query is at fault, the database is.
BAD_QUERY: Final = 2
_BAD_DATABASE: Final = 3
#: Numbers of SQLite's authorizer (https://sqlite.org/c3ref/c_alter_table.html).
_OK, _DENY = 0, 1
_READ: Final = 20
#: READ, SELECT, FUNCTION, RECURSIVE.
_READING: Final = frozenset({_READ, 21, 31, 33})
#: Steps of SQLite's machine between two looks at the clock: about a millisecond.
_STEPS: Final = 20_000
#: Bytes of memory that SQLite may take, and of its cache.
_HEAP_BYTES: Final = 64 * 2**20
_CACHE_KIB: Final = 4000
#: Rows that are fetched at once.
_FETCHED: Final = 4000

_PICK: Final = f"""
    WITH picked(seq) AS (
{{sql}}
    )
    SELECT picked.seq, messages.seq IS NOT NULL FROM picked LEFT JOIN messages
    ON typeof(picked.seq) = 'integer' AND messages.seq = picked.seq
    AND messages.topic <> '{CANARY_TOPIC}'
    ORDER BY picked.seq
"""


def main() -> int:
    """Run the query of standard input on the database that the arguments name."""
    priority.lower_this_thread()
    path, seconds = Path(sys.argv[1]), float(sys.argv[2])
    try:
        _run(path, sys.stdin.buffer.read().decode(), seconds)
    except InputError as error:
        sys.stderr.write(str(error))
        return BAD_QUERY
    except StoreError as error:
        sys.stderr.write(str(error))
        return _BAD_DATABASE
    return 0


def _run(path: Path, text: str, seconds: float) -> None:
    connection = connect(path, readonly=True)
    end = time.monotonic() + seconds
    try:
        _bind(connection, end)
        _check_columns(connection, text)
        _print_found(connection, text)
    except MemoryError as error:
        raise InputError(
            f"it takes more than {_HEAP_BYTES // 2**20} MiB of memory; {EXAMPLE}"
        ) from error
    except sqlite3.Error as error:
        raise _in_words(error, path, seconds) from error
    finally:
        connection.close()


def _bind(connection: Any, end: float) -> None:
    where_sql.add_functions(connection)
    for pragma in (
        f"cache_size = -{_CACHE_KIB}", f"hard_heap_limit = {_HEAP_BYTES}", "query_only = ON",
    ):  # fmt: skip
        connection.execute(f"PRAGMA {pragma}").fetchall()
    connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
    connection.set_authorizer(_authorize)


def _authorize(action: int, table: str | None, *_: str | None) -> int:
    if action not in _READING or (action == _READ and str(table).lower() in SECRET_TABLES):
        return _DENY
    return _OK


def _check_columns(connection: Any, text: str) -> None:
    cursor = connection.execute(f"SELECT * FROM (\n{text}\n) LIMIT 0")
    names = [column[0] for column in cursor.description]
    cursor.close()
    if len(names) != 1:
        raise InputError(
            f"expected one column, the seq of messages, and it has {len(names)} "
            f"({', '.join(names)[:100]}); {EXAMPLE}"
        )


def _print_found(connection: Any, text: str) -> None:
    cursor = connection.execute(_PICK.format(sql=text))
    before = None
    while rows := cursor.fetchmany(_FETCHED):
        found = array("q")
        for seq, is_there in rows:
            if type(seq) is not int:
                raise InputError(
                    f"expected whole numbers, the seq of messages, and found {_shown(seq)}; "
                    f"{EXAMPLE}"
                )
            if is_there and seq != before:
                before = seq
                found.append(seq)
        sys.stdout.buffer.write(found.tobytes())
    sys.stdout.buffer.flush()


def _shown(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return "bytes"
    return repr(value) if isinstance(value, float) else f"the text {str(value)[:50]!r}"


def _in_words(error: Exception, path: Path, seconds: float) -> Exception:
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_INTERRUPT":
        return InputError(
            f"it took longer than {seconds:.0f} s and was ended; ask for fewer messages, such as "
            "with AND seq > 1000000 AND seq <= 2000000, make an index (appliance index), or select "
            "by topics, times and conditions, which may take any time"
        )
    if name == "SQLITE_AUTH" or "prohibited" in str(error):
        return InputError(
            f"{error}: a query can only read, and nothing of tokens, sessions, inbox addresses, "
            "endpoints and the audit trail"
        )
    if name in ("SQLITE_ERROR", "SQLITE_TOOBIG", "SQLITE_RANGE", "SQLITE_MISMATCH"):
        return InputError(f"{error}; {EXAMPLE}")
    return store_error(error, path)


if __name__ == "__main__":
    sys.exit(main())
