"""Runs a query of somebody's own for numbers of messages: it reads, briefly, and no secret.

PostgreSQL itself holds the bounds: the transaction is one that only reads, and each statement of it
is ended after some seconds. May the query see what it names? Before it is run, it is made into a
temporary view that nobody keeps: PostgreSQL then says which tables and functions it names, without
running any of it. It may name the tables that hold messages and what became of them, and functions
that do nothing but calculate. PostgreSQL has no bound for the memory of a query, as SQLite has.
"""

# ruff: noqa: S608  # the query is its asker's own, in a transaction that can only read

import re
from collections.abc import Iterator
from typing import Any, Final

import psycopg

from appliance.errors import InputError
from appliance.model.topics import CANARY_TOPIC
from appliance.store import own_queries
from appliance.store.own_queries import EXAMPLE, QUERY_SECONDS, SECRET_TABLES, checked
from appliance.store.postgresql.connections import PostgresConnection, connect, store_error

#: Rows that are fetched at once.
_FETCHED: Final = 4000
#: Functions that change from call to call and do no harm.
_HARMLESS: Final = ("clock_timestamp", "gen_random_uuid", "random", "timeofday")
#: Begins of the names of functions that read tables which they are told by a text, or tell of the
#: server and of others' queries.
_READING: Final = (
    "current_setting", "database_to_xml", "has_", "pg_", "schema_to_xml", "table_to_xml", "txid_",
)  # fmt: skip
#: Kinds of a table: a table, one in partitions, a view, a materialised view.
_TABLES: Final = "rpvm"

#: The tables and the functions of a view, out of the tree that PostgreSQL keeps of it.
_TREE: Final = "SELECT ev_action::text FROM pg_rewrite WHERE ev_class = to_regclass(?)::oid"
_TREE_OF: Final = "SELECT ev_action::text FROM pg_rewrite WHERE ev_class = ? AND ev_type = '1'"
_NAMED: Final = re.compile(r":(relid|funcid|opfuncid|aggfnoid|winfnoid) (\d+)")
_RELATION: Final = """
    SELECT relname, relkind::text, relnamespace = current_schema()::regnamespace FROM pg_class
    WHERE oid = ?
"""
_FUNCTION: Final = """
    SELECT proname, provolatile::text, pronamespace = 'pg_catalog'::regnamespace
        OR pronamespace = current_schema()::regnamespace AND starts_with(proname, 'appliance_')
    FROM pg_proc WHERE oid = ?
"""
_PICK: Final = f"""
    WITH picked(seq) AS (
{{sql}}
    )
    SELECT picked.seq, messages.seq IS NOT NULL FROM picked LEFT JOIN messages
    ON messages.seq = picked.seq AND messages.topic <> '{CANARY_TOPIC}'
    ORDER BY picked.seq
"""
#: PostgreSQL's whole numbers.
_INTEGERS: Final = ("smallint", "integer", "bigint")


def seqs_found(url: str, sql: str, seconds: float = QUERY_SECONDS) -> Iterator[int]:
    """Yield the numbers of messages that a query finds, in order, each once.

    Numbers of messages that are not there are left out. Raises InputError, in words for whoever
    wrote the query, and StoreError.
    """
    text = checked(sql)
    connection = connect(url, readonly=False)
    try:
        connection.execute("BEGIN")
        connection.execute("SET LOCAL work_mem = '16MB'")
        connection.execute("SET LOCAL max_parallel_workers_per_gather = 0")
        connection.execute(f"SET LOCAL statement_timeout = {max(1, int(seconds * 1000))}")
        connection.execute("SAVEPOINT before")
        _check(connection, text)
        connection.execute("ROLLBACK TO SAVEPOINT before")
        connection.execute("SET LOCAL transaction_read_only = on")
        yield from _found(connection, text)
    except psycopg.Error as error:
        raise _in_words(error, url, seconds) from error
    finally:
        connection.close()  # nothing is committed


def _check(connection: PostgresConnection, text: str) -> None:
    """Raise InputError for a query that may not be run; it is parsed, and no part of it is run."""
    _run(connection, f"CREATE TEMP VIEW appliance_query AS\n{text}\n")
    columns = connection.execute(
        "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute "
        "WHERE attrelid = to_regclass('pg_temp.appliance_query') AND attnum > 0 ORDER BY attnum"
    ).fetchall()
    if len(columns) != 1:
        names = ", ".join(name for name, _ in columns)[:100]
        raise InputError(
            f"sql: expected one column, the seq of messages, and it has {len(columns)} ({names}); "
            f"{EXAMPLE}"
        )
    if columns[0][1] not in _INTEGERS:
        raise InputError(
            f"sql: expected whole numbers, the seq of messages, and found the type "
            f"{columns[0][1]}; {EXAMPLE}"
        )
    trees = [row[0] for row in connection.execute(_TREE, ("pg_temp.appliance_query",))]
    seen: set[tuple[str, str]] = set()
    while trees:
        for kind, number in _NAMED.findall(trees.pop()):
            what = "relid" if kind == "relid" else "function"
            if number == "0" or (what, number) in seen:
                continue
            seen.add((what, number))
            if what == "relid":
                trees += _tree_of_relation(connection, number)
            else:
                _check_function(connection, number)


def _tree_of_relation(connection: PostgresConnection, number: str) -> list[str]:
    """Return the tree of a view; none of a table. Raises InputError for what nobody may read."""
    row = connection.execute(_RELATION, (int(number),)).fetchone()
    if row is None:
        return []
    name, kind, is_ours = row
    if name == "appliance_query":
        return []
    if not is_ours or kind not in _TABLES or name in SECRET_TABLES:
        raise InputError(
            f"sql: {name}: a query can only read, and nothing of tokens, sessions, inbox "
            "addresses, endpoints, the audit trail and PostgreSQL's own tables"
        )
    if kind != "v":
        return []
    return [tree for (tree,) in connection.execute(_TREE_OF, (int(number),))]


def _check_function(connection: PostgresConnection, number: str) -> None:
    row = connection.execute(_FUNCTION, (int(number),)).fetchone()
    if row is None:
        return
    name, volatility, is_known = row
    is_calm = volatility in ("i", "s") or name in _HARMLESS
    if not is_known or not is_calm or (name.startswith(_READING) and name != "pg_typeof"):
        raise InputError(
            f"sql: the function {name} is none of those that a query can call: it can only read "
            "messages and calculate"
        )


def _found(connection: PostgresConnection, text: str) -> Iterator[int]:
    _run(connection, f"DECLARE found NO SCROLL CURSOR FOR {_PICK.format(sql=text)}")
    before, count = None, 0
    while rows := connection.execute(f"FETCH {_FETCHED} FROM found").fetchall():
        for seq, is_there in rows:
            if seq is None:
                raise InputError(
                    f"sql: expected whole numbers, the seq of messages, and found NULL; {EXAMPLE}"
                )
            if is_there and seq != before:
                before = seq
                count += 1
                if count > own_queries.MOST_FOUND:
                    raise own_queries.too_many()
                yield seq


def _run(connection: PostgresConnection, statement: str) -> None:
    """Run one statement: PostgreSQL refuses a text that has more, which it would run otherwise."""
    result: Any = connection.driver.pgconn.exec_params(statement.encode(), None)
    if result.status not in (psycopg.pq.ExecStatus.COMMAND_OK, psycopg.pq.ExecStatus.TUPLES_OK):
        raise psycopg.errors.error_from_result(result)


def _in_words(error: psycopg.Error, url: str, seconds: float) -> Exception:
    state = error.sqlstate or ""
    words = str(error).partition("\n")[0]
    if state == "57014":  # query_canceled
        return own_queries.too_slow(seconds)
    if state == "25006":  # read_only_sql_transaction
        return InputError(f"sql: {words}: a query can only read; {EXAMPLE}")
    # Syntax and names, values that can't be, what is not supported, a limit of the program's own.
    if state[:2] in ("42", "22", "0A", "21", "54"):
        return InputError(f"sql: {words}; {EXAMPLE}")
    return store_error(error, url)
