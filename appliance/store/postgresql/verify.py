"""Checks of the whole database: its objects, counters, dead letters, search index, ledger.

Nothing is written. Each check compares within one snapshot. The structure of the files is
PostgreSQL's own to check (`pg_amcheck`, and checksums of its pages).
"""

import time
from typing import Any, Final

import psycopg

from appliance.store.base import StepTimer
from appliance.store.postgresql import index_check, migrations, objects
from appliance.store.postgresql.connections import (
    PostgresConnection,
    connect,
    location,
    store_error,
)
from appliance.store.sql import sums
from appliance.store.verification import Integrity, Verification

#: Each topic with its counters, and the sums of its rows.
_COUNTERS: Final = """
    SELECT coalesce(t.topic, m.topic),
        coalesce(t.messages, 0), coalesce(t.bytes, 0), t.first_at, t.last_at,
        coalesce(m.messages, 0), coalesce(m.bytes, 0), m.first_at, m.last_at
    FROM topics AS t FULL JOIN (
        SELECT topic, count(*) AS messages,
            sum(coalesce(octet_length(body_bytes), octet_length(body))) AS bytes,
            min(received_at) AS first_at, max(received_at) AS last_at
        FROM messages GROUP BY topic
    ) AS m ON m.topic = t.topic
"""
#: What a damaged index would answer differently: it is asked of the table, without any index.
_DOUBLE: Final = """
    SELECT count(*) FROM (SELECT id FROM messages GROUP BY id HAVING count(*) > 1) AS double
"""
_AFTER_END: Final = """
    SELECT count(messages.seq), last_seq FROM shards LEFT JOIN messages ON seq > last_seq
    WHERE shard = 0 GROUP BY last_seq
"""
_ALSO_STORED: Final = """
    SELECT count(*) FROM dead_letters AS d JOIN messages AS m
    ON m.id = d.id AND m.topic = d.topic
    AND coalesce(m.body_bytes, convert_to(m.body, 'UTF8')) = d.body
"""


def verify(url: str, *, quick: bool, progress: StepTimer) -> Verification:
    """Check the database at `url`; `quick` leaves out the reading of every row without an index.

    Raises StoreError where it can't be opened.
    """
    connection = connect(url, readonly=True)
    try:
        return _verify(connection, url, quick=quick, progress=progress)
    except psycopg.Error as error:
        raise store_error(error, url) from error
    finally:
        connection.close()


def _verify(
    connection: PostgresConnection, url: str, *, quick: bool, progress: StepTimer
) -> Verification:
    began = time.monotonic()

    def begin(step: str) -> None:
        progress(step, time.monotonic() - began)

    result = Verification(location(url), *migrations.versions(connection))
    if result.schema != result.schema_wanted:
        result.problems.append(
            f"schema {result.schema}, this program's is {result.schema_wanted}; "
            + ("run appliance migrate" if result.schema < result.schema_wanted
               else "use the newer program")
        )  # fmt: skip
        return result
    begin("structure")
    gone = objects.lacking(connection)
    errors = [] if quick else _errors(connection)
    check = "objects" if quick else "objects and rows"
    result.integrity = Integrity(check, not gone and not errors, errors, gone, [])
    result.problems += gone + errors
    begin("counters")
    result.messages = sums.message_sums(connection.execute(_COUNTERS))
    sums.judge_counters(result, result.messages)
    begin("dead letters")
    result.dead_letters = sums.dead_letter_sums(connection, _ALSO_STORED)
    sums.judge_letters(result, result.dead_letters)
    begin("search index")
    if fault := index_check.compare(connection):
        result.notes.append(
            f"the search index is damaged ({fault}); no message is: "
            "`appliance verify --repair` has the janitor make it anew"
        )
    begin("ledger")
    result.sources = sums.ledger_sums(connection, result.problems)
    sums.judge_ledger(result, result.sources)
    return result


def _errors(connection: Any) -> list[str]:
    """Read every row past the indexes; return what must not be."""
    with connection.driver.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SET LOCAL enable_indexscan = off")
        connection.execute("SET LOCAL enable_indexonlyscan = off")
        connection.execute("SET LOCAL enable_bitmapscan = off")
        double = connection.execute(_DOUBLE).fetchone()[0]
        shard = connection.execute(_AFTER_END).fetchone()
    errors = []
    if double:
        errors.append(f"ids that are stored more than once: {double:,}")
    if shard is None:
        errors.append("the table shards has no row: messages wait until it has one")
    elif shard[0]:
        late, end = shard
        remedy = f"UPDATE messages SET seq = DEFAULT WHERE seq > {end}"  # noqa: S608  # for people
        errors.append(
            f"rows that another program put behind the last place: {late:,}; nothing that follows "
            f"the messages sees them until {remedy}"
        )
    return errors
