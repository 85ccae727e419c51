"""A data folder with as much in it as an appliance has after a long time, made by SQL in seconds.

The rows are such as the worker writes: JSON of some 200 bytes, numbered ids, four topics with a
quarter of the messages and the rest in thousands of small ones.
"""

import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from appliance.model import timestamps
from appliance.store.sql.history_table import MAX_MINUTES
from appliance.store.sqlite import indexer
from appliance.store.sqlite.database import connect
from appliance.store.sqlite.migrations import migrate

#: Topics that have a quarter of all messages together, more than the others have.
LARGE: Final = ("orders", "readings", "hooks", "logs")
_ID: Final = "01890000-{:04x}-7{:03x}-8000-{:012x}"

_NUMBERS: Final = """
    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count)
"""
_SQL_ID: Final = "printf('{}-%04x-7%03x-8000-%012x', n >> 12 & 65535, n & 4095, n)"
_SQL_TIME: Final = (
    "strftime('%Y-%m-%dT%H:%M:%fZ', :now - (:count - n) * :pause, 'unixepoch')"  # oldest first
)
_SQL_TOPIC: Final = """
    CASE WHEN n % 16 < 4 THEN CASE n % 16 WHEN 0 THEN 'orders' WHEN 1 THEN 'readings'
        WHEN 2 THEN 'hooks' ELSE 'logs' END
    ELSE printf('site-%05d', n * 7919 % :small) END
"""
_MESSAGES: Final = f"""
    {_NUMBERS}
    INSERT INTO messages (id, topic, body, received_at, content_type, meta)
    SELECT {_SQL_ID.format("01890000")}, {_SQL_TOPIC},
        printf('{{"number": %d, "customer": {{"id": %d, "name": "customer %d of ada and grace"}}, '
            || '"total": %d.%02d, "state": "%s", "note": "left at the door, rang twice"}}',
            n, n % 5000, n % 5000, n % 900, n % 100,
            CASE n % 3 WHEN 0 THEN 'paid' WHEN 1 THEN 'open' ELSE 'sent' END),
        {_SQL_TIME}, 'application/json',
        CASE WHEN n % 10 = 0 THEN '{{"via":"http","method":"POST","remote":"192.0.2.7",'
            || '"token":"token-0001","headers":{{"user-agent":"sender/1.0"}}}}' END
    FROM numbers
"""
_TOPICS: Final = """
    INSERT INTO topics (topic, messages, bytes, first_at, last_at)
    SELECT topic, count(*), sum(octet_length(body)), min(received_at), max(received_at)
    FROM messages GROUP BY topic
"""
_LETTERS: Final = f"""
    {_NUMBERS}
    INSERT INTO dead_letters (
        id, topic, body, reason, error, received_at, dead_at, content_type, meta
    )
    SELECT {_SQL_ID.format("018a0000")}, {_SQL_TOPIC},
        CAST(printf('{{"number": %d, "total": "many", "note": "does not fit the schema"}}', n)
            AS BLOB),
        CASE WHEN n = :count / 2 THEN 'undecodable' WHEN n % 100 = 0 THEN 'unstorable'
            WHEN n % 20 = 0 THEN 'bad-signature' WHEN n % 20 = 1 THEN 'not-json'
            WHEN n % 20 = 2 THEN 'conflict' ELSE 'schema' END,
        'total: "many" is not of type "number"', {_SQL_TIME}, {_SQL_TIME}, 'application/json',
        CASE WHEN n % 20 = 0 THEN '{{"quarantine":"inbox-0001","inbox":"inbox-0001"}}' END
    FROM numbers
"""
_ACCESS: Final = (
    f"""
    {_NUMBERS}
    INSERT INTO tokens (name, digest, rights, topics, created_at)
    SELECT printf('token-%04d', n), randomblob(32), '["publish","read"]',
        printf('["site-%05d","orders"]', n), :at FROM numbers
    """,
    f"""
    {_NUMBERS}
    INSERT INTO inboxes (name, topic, kind, settings, created_at)
    SELECT printf('inbox-%04d', n), CASE WHEN n % 10 THEN printf('site-%05d', n) ELSE 'hooks' END,
        'github', '{{}}', :at FROM numbers
    """,
    """
    INSERT INTO inbox_secrets (digest, inbox, created_at)
    SELECT randomblob(32), name, created_at FROM inboxes
    """,
    """
    INSERT INTO inbox_signing_secrets (inbox, secret, created_at)
    SELECT name, hex(randomblob(16)), created_at FROM inboxes
    """,
    f"""
    {_NUMBERS}
    INSERT INTO audit (at, who, address, action, target, details)
    SELECT :at, 'administrator', '192.0.2.7', 'inbox-create', printf('inbox-%04d', n), 'github'
    FROM numbers
    """,
    f"""
    {_NUMBERS}
    INSERT INTO deletions (id, selection, asked_at, who, address, until_seq, ended_at)
    SELECT {_SQL_ID.format("018b0000")}, '{{"topic":"orders","ids":["' ||
        {_SQL_ID.format("01890000")} || '"]}}', :at, 'administrator', '192.0.2.7', n, :at
    FROM numbers WHERE n <= 200
    """,
)
_MINUTES: Final = f"""
    {_NUMBERS}
    INSERT INTO history (at, seconds, accepted, stored, refused, dead, waiting, oldest_seconds,
        p50_seconds, p99_seconds, disk_free_bytes)
    SELECT CAST(:now AS INTEGER) / 60 * 60 - n * 60, 60, n * 7919 % 90000, n * 7907 % 90000,
        n % 3, n % 97 = 0, n % 11, n % 7 / 10.0, 0.004, 0.009, 1000000000000 + n * 1000000
    FROM numbers
"""


@dataclass(frozen=True)
class Size:
    """How much is in it."""

    rows: int
    topics: int
    letters: int
    #: tokens, and inbox addresses
    access: int


def fill(database: Path, size: Size, say: Callable[[str], None]) -> None:
    """Make the database with so much in it, and its full-text index."""
    migrate(database)
    connection = connect(database, readonly=False)
    try:
        _fill(connection, size, say)
    finally:
        connection.close()
    say("filling the full-text index")
    filler = indexer.Indexer(database, is_on=True, floor=0, rest=lambda _seconds: False)
    with contextlib.redirect_stdout(sys.stderr):  # it logs; ours is for the report
        while filler.run() == 0:
            pass


def _fill(connection: Any, size: Size, say: Callable[[str], None]) -> None:
    now = time.time()
    at = timestamps.timestamp(now)
    common = {"now": now, "small": max(size.topics - len(LARGE), 1)}
    connection.execute("BEGIN IMMEDIATE")
    say(f"storing {size.rows:,} messages of {size.topics:,} topics")
    # Two weeks, as the widest chart of the overview shows them.
    connection.execute(_MESSAGES, {**common, "count": size.rows, "pause": 14 * 86400 / size.rows})
    connection.execute(_TOPICS)
    say(f"storing {size.letters:,} dead letters, {size.access:,} addresses and tokens")
    pause = 14 * 86400 / size.letters
    connection.execute(_LETTERS, {**common, "count": size.letters, "pause": pause})
    for statement in _ACCESS:
        connection.execute(statement, {"count": size.access, "at": at})
    connection.execute(_MINUTES, {"now": now, "count": MAX_MINUTES})
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def message_id(seq: int) -> str:
    """Return the id of the message that has this `seq`."""
    return _ID.format(seq >> 12 & 0xFFFF, seq & 0xFFF, seq)
