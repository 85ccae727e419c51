"""The schema, and every change it ever had.

Each change is one function below; sqlite-utils records which were applied. A function is never
edited once it is released. `PRAGMA user_version` counts the changes, so that a program can tell
with one read whether it fits the database.
"""

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from appliance.errors import SchemaError, StoreError
from appliance.machine import files, locks
from appliance.store.sqlite import closed, paths
from appliance.store.sqlite.database import connect, sqlite3, store_error, transaction

if TYPE_CHECKING:
    from sqlite_utils import Database


class Migrations:
    """A list of changes that becomes sqlite-utils' registry only where it is needed.

    A process that stores or reads only counts the changes, and is 4 MB smaller without the library.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._changes: list[Callable[[Any], None]] = []

    def __call__(self) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
        """Register the function as the next change."""

        def register(change: Callable[[Any], None]) -> Callable[[Any], None]:
            self._changes.append(change)
            return change

        return register

    def __len__(self) -> int:
        return len(self._changes)

    def _registry(self) -> Any:
        from sqlite_utils.migrations import Migrations as Registry  # noqa: PLC0415

        registry = Registry(self._name)
        for change in self._changes:
            registry()(change)
        return registry

    def pending(self, db: "Database") -> list[Any]:
        """Return the changes that `db` has not had yet."""
        return list(self._registry().pending(db))

    def apply(self, db: "Database") -> None:
        """Bring `db` to the newest schema, each change in a transaction of its own.

        Each begins with the writer's lock. Where a transaction has read first, as sqlite-utils'
        own do, SQLite doesn't wait for the lock: a process that has it for a millisecond would end
        the migration.
        """
        registry = self._registry()
        with transaction(db.conn):
            registry.ensure_migrations_table(db)
        names = [change.name for change in registry.pending(db)]
        for done in range(1, len(names) + 1):
            with transaction(db.conn):
                registry.apply(db, stop_before=names[done:])


_migrations: Final = Migrations("appliance")

#: Bytes. Twice SQLite's default: rows of a few hundred bytes were stored 1.3 times as fast.
_PAGE_SIZE: Final = 8192


@_migrations()
def m001_messages_topics_and_dead_letters(db: "Database") -> None:
    """Make the first schema."""
    for statement in (
        """
        CREATE TABLE messages (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order of storing; never used again
            id TEXT NOT NULL UNIQUE,                -- UUID, as the 202 gave it
            topic TEXT NOT NULL,
            body TEXT NOT NULL,                     -- TEXT; BLOB where not UTF-8 or with a NUL
            received_at TEXT NOT NULL               -- when the API took it: ISO 8601, UTC
        )
        """,
        "CREATE INDEX messages_topic ON messages (topic)",
        """
        CREATE TABLE topics (                       -- kept by the worker, never counted anew
            topic TEXT PRIMARY KEY,
            messages INTEGER NOT NULL,
            bytes INTEGER NOT NULL,
            first_at TEXT NOT NULL,
            last_at TEXT NOT NULL
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE dead_letters (                 -- what could not be stored, and why
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL,
            topic TEXT NOT NULL,
            body BLOB NOT NULL,
            reason TEXT NOT NULL,                   -- a stable word
            error TEXT NOT NULL,                    -- the same for people
            received_at TEXT NOT NULL,
            dead_at TEXT NOT NULL,
            UNIQUE (id, reason, body)
        )
        """,
    ):
        db.execute(statement)


@_migrations()
def m002_sources(db: "Database") -> None:
    """Add the ledger: which of each API process's numbered envelopes came."""
    db.execute(
        """
        CREATE TABLE sources (                      -- API processes, and what came of each
            source TEXT PRIMARY KEY,                -- a random name, new at each start
            accounted TEXT NOT NULL,                -- [[first, last], ...]: stored or not kept
            settled INTEGER NOT NULL,               -- up to here, what is not accounted is missing
            not_kept INTEGER NOT NULL,              -- how many of them the broker did not take
            missing INTEGER NOT NULL,               -- how many were confirmed and never came
            accepted INTEGER NOT NULL DEFAULT 0,    -- how many that were missing are known
            first_at TEXT NOT NULL,                 -- when its first and last envelopes were taken
            last_at TEXT NOT NULL
        ) WITHOUT ROWID
        """
    )


@_migrations()
def m003_restores(db: "Database") -> None:
    """Add when a backup took the database's place, and how much it left behind."""
    db.execute(
        """
        CREATE TABLE restores (                     -- backups that took this database's place
            restored_at TEXT PRIMARY KEY,
            source TEXT NOT NULL,                   -- the backup's file
            replaced TEXT,                          -- name of the replaced database; NULL: none
            left_messages INTEGER,                  -- how many it alone has; NULL: not known
            left_dead_letters INTEGER
        ) WITHOUT ROWID
        """
    )


@_migrations()
def m004_content_type_and_meta(db: "Database") -> None:
    """Add what came with a message: its media type, and its request (JSON, see model.meta)."""
    for table in ("messages", "dead_letters"):
        db.execute(f"ALTER TABLE {table} ADD COLUMN content_type TEXT")
        db.execute(f"ALTER TABLE {table} ADD COLUMN meta TEXT")


@_migrations()
def m005_access(db: "Database") -> None:
    """Add tokens, inbox addresses, and what administrators did."""
    for statement in (
        """
        CREATE TABLE tokens (
            name TEXT PRIMARY KEY,
            digest BLOB NOT NULL UNIQUE,            -- SHA-256; the token itself is kept nowhere
            rights TEXT NOT NULL,                   -- JSON array: publish, read, admin
            topics TEXT NOT NULL,                   -- JSON array of patterns
            rate TEXT,                              -- requests, as in 100/m; NULL: no limit
            created_at TEXT NOT NULL,
            expires_at TEXT,                        -- NULL: never
            last_used_at TEXT                       -- to some seconds; NULL: never
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE inboxes (                      -- inbox addresses: POST /in/{secret}
            name TEXT PRIMARY KEY,
            topic TEXT NOT NULL,
            kind TEXT NOT NULL,                     -- github, stripe, form ...
            settings TEXT NOT NULL,                 -- JSON object, for the kind to read
            created_at TEXT NOT NULL,
            last_used_at TEXT                       -- to some seconds; NULL: never
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE inbox_secrets (                -- the secret of an inbox's address
            digest BLOB PRIMARY KEY,                -- SHA-256; the secret itself is kept nowhere
            inbox TEXT NOT NULL,
            created_at TEXT NOT NULL,
            expires_at TEXT                         -- NULL: never; set while it is replaced
        ) WITHOUT ROWID
        """,
        "CREATE INDEX inbox_secrets_inbox ON inbox_secrets (inbox)",
        """
        CREATE TABLE inbox_signing_secrets (        -- with which senders sign
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            inbox TEXT NOT NULL,
            secret TEXT NOT NULL,                   -- readable: signatures are computed with it
            created_at TEXT NOT NULL,
            expires_at TEXT                         -- NULL: never; set while it is replaced
        )
        """,
        "CREATE INDEX inbox_signing_secrets_inbox ON inbox_signing_secrets (inbox)",
        """
        CREATE TABLE audit (                        -- what administrators did
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            at TEXT NOT NULL,
            who TEXT NOT NULL,                      -- the token's name
            address TEXT NOT NULL,                  -- the client's
            action TEXT NOT NULL,                   -- a stable word
            target TEXT NOT NULL,
            details TEXT NOT NULL
        )
        """,
        """
        CREATE TABLE access_version (               -- one row; it grows with every change of these
            one INTEGER PRIMARY KEY CHECK (one = 1),
            version INTEGER NOT NULL
        )
        """,
        "INSERT INTO access_version VALUES (1, 1)",
        """
        CREATE TRIGGER inboxes_removed AFTER DELETE ON inboxes BEGIN
            DELETE FROM inbox_secrets WHERE inbox = old.name;
            DELETE FROM inbox_signing_secrets WHERE inbox = old.name;
        END
        """,
        *_version_triggers("tokens", "name, digest, rights, topics, rate, expires_at"),
        *_version_triggers("inboxes", "name, topic, kind, settings"),
        *_version_triggers("inbox_secrets", "digest, inbox, expires_at"),
        *_version_triggers("inbox_signing_secrets", "inbox, secret, expires_at"),
    ):
        db.execute(statement)


@_migrations()
def m006_schemas(db: "Database") -> None:
    """Add JSON Schemas by topic; a change of them is one of who may send what."""
    for statement in (
        """
        CREATE TABLE schemas (
            topic TEXT PRIMARY KEY,
            mode TEXT NOT NULL,                     -- observe, quarantine or reject
            schema TEXT NOT NULL,                   -- JSON
            changed_at TEXT NOT NULL
        ) WITHOUT ROWID
        """,
        *_version_triggers("schemas", "topic, mode, schema"),
    ):
        db.execute(statement)


def _version_triggers(table: str, columns: str) -> list[str]:
    """Return the triggers by which any change of these columns is seen, whoever makes it."""
    count = "UPDATE access_version SET version = version + 1"
    events = {"added": "INSERT", "changed": f"UPDATE OF {columns}", "gone": "DELETE"}
    return [
        f"CREATE TRIGGER {table}_{word} AFTER {event} ON {table} BEGIN {count}; END"
        for word, event in events.items()
    ]


@_migrations()
def m007_counters_that_follow_sql(db: "Database") -> None:
    """Add triggers that keep the counters right where rows are deleted or changed with SQL.

    They cost an insertion nothing. Rows that another program inserts are counted by the janitor:
    a trigger for that would make the storing of lines a quarter slower. `octet_length` would be
    quicker, and older SQLite shells don't have it.
    """
    for statement in (
        """
        CREATE TRIGGER appliance_message_deleted AFTER DELETE ON messages BEGIN
            UPDATE topics SET
                messages = max(0, messages - 1),
                bytes = max(0, bytes - length(CAST(old.body AS BLOB)))
            WHERE topic = old.topic;
        END
        """,
        """
        CREATE TRIGGER appliance_message_updated
        AFTER UPDATE OF topic, body, received_at ON messages BEGIN
            UPDATE topics SET
                messages = max(0, messages - 1),
                bytes = max(0, bytes - length(CAST(old.body AS BLOB)))
            WHERE topic = old.topic;
            INSERT INTO topics (topic, messages, bytes, first_at, last_at)
            SELECT new.topic, 0, 0, new.received_at, new.received_at
            WHERE NOT EXISTS (SELECT 1 FROM topics WHERE topic = new.topic);
            UPDATE topics SET
                messages = messages + 1,
                bytes = bytes + length(CAST(new.body AS BLOB)),
                first_at = min(first_at, new.received_at),
                last_at = max(last_at, new.received_at)
            WHERE topic = new.topic;
        END
        """,
    ):
        db.execute(statement)


@_migrations()
def m008_quarantine(db: "Database") -> None:
    """Add which dead letters are quarantined, for whom, and how many had to go again.

    `->>` would be shorter, but a SQLite before 3.38 could not open the database then.
    """
    for statement in (
        """
        ALTER TABLE dead_letters ADD COLUMN quarantine TEXT GENERATED ALWAYS AS (
            CASE WHEN json_valid(meta) THEN json_extract(meta, '$.quarantine') END
        ) VIRTUAL
        """,
        """
        ALTER TABLE dead_letters ADD COLUMN kept_bytes INTEGER GENERATED ALWAYS AS (
            max(1024, length(CAST(body AS BLOB)) + coalesce(length(meta), 0) + length(error))
        ) VIRTUAL
        """,
        """
        CREATE INDEX dead_letters_quarantine
        ON dead_letters (quarantine, seq, dead_at, kept_bytes) WHERE quarantine IS NOT NULL
        """,
        """
        CREATE TABLE quarantine_losses (            -- letters that the budget or their age ended
            cause TEXT PRIMARY KEY,                 -- bytes or age
            letters INTEGER NOT NULL,
            bytes INTEGER NOT NULL,
            last_at TEXT NOT NULL
        ) WITHOUT ROWID
        """,
    ):
        db.execute(statement)


@_migrations()
def m009_sessions(db: "Database") -> None:
    """Add who is signed in to the console."""
    for statement in (
        """
        CREATE TABLE sessions (
            digest BLOB PRIMARY KEY,                -- SHA-256 of the secret in the cookie
            token BLOB NOT NULL,                    -- SHA-256 of the token: it has its rights
            name TEXT NOT NULL,                     -- the token's
            address TEXT NOT NULL,                  -- the browser's, and what it calls itself
            agent TEXT NOT NULL,
            created_at TEXT NOT NULL,
            expires_at TEXT NOT NULL,               -- moved on while it is used
            last_used_at TEXT NOT NULL              -- to some minutes
        ) WITHOUT ROWID
        """,
        *_version_triggers("sessions", "digest, token, expires_at"),
    ):
        db.execute(statement)


@_migrations()
def m010_deletions(db: "Database") -> None:
    """Add the orders to delete messages, and how far each has come."""
    db.execute(
        """
        CREATE TABLE deletions (                    -- orders to delete messages
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            selection TEXT NOT NULL,                -- JSON: which messages
            asked_at TEXT NOT NULL,                 -- messages received later stay
            who TEXT NOT NULL,
            address TEXT NOT NULL,
            until_seq INTEGER,                      -- the last row; NULL: its mark has not come yet
            reached INTEGER NOT NULL DEFAULT 0,     -- rows up to here are done
            messages INTEGER NOT NULL DEFAULT 0,    -- how many are gone
            bytes INTEGER NOT NULL DEFAULT 0,
            kept INTEGER NOT NULL DEFAULT 0,        -- rows that a trigger kept from being deleted
            ended_at TEXT                           -- NULL: it is not done yet
        )
        """
    )
    db.execute("CREATE INDEX deletions_open ON deletions (seq) WHERE ended_at IS NULL")


@_migrations()
def m011_search(db: "Database") -> None:
    """Add what the full-text index needs to know: whose it is, and which rows were changed.

    The index is a file of its own (see search_index); an insertion costs what it did before.
    """
    for statement in (
        """
        CREATE TABLE search_identity (              -- one row
            one INTEGER PRIMARY KEY CHECK (one = 1),
            identity TEXT NOT NULL                  -- random; another one after a restore
        )
        """,
        "INSERT INTO search_identity VALUES (1, hex(randomblob(16)))",
        """
        CREATE TABLE search_changes (               -- rows that the index has as they were
            number INTEGER PRIMARY KEY,
            seq INTEGER NOT NULL,
            is_deleted INTEGER NOT NULL
        )
        """,
        "CREATE INDEX search_changes_seq ON search_changes (seq) WHERE is_deleted = 0",
        """
        CREATE TRIGGER appliance_search_deleted AFTER DELETE ON messages BEGIN
            INSERT INTO search_changes (seq, is_deleted) VALUES (old.seq, 1);
        END
        """,
        """
        CREATE TRIGGER appliance_search_updated AFTER UPDATE OF seq, topic, body ON messages BEGIN
            INSERT INTO search_changes (seq, is_deleted) VALUES (old.seq, 0), (new.seq, 0);
        END
        """,
    ):
        db.execute(statement)


@_migrations()
def m012_indexes_of_dead_letters(db: "Database") -> None:
    """Add the indexes by which letters are counted and found, however many there are.

    Counters kept by triggers would answer no faster at a hundred thousand letters, and would have
    to be compared with the letters.
    """
    for name, columns in (("reason", "reason"), ("topic", "topic"), ("both", "topic, reason")):
        db.execute(f"CREATE INDEX appliance_letters_by_{name} ON dead_letters ({columns})")


@_migrations()
def m013_history(db: "Database") -> None:
    """Add how each minute was: what the overview draws, for two weeks."""
    db.execute(
        """
        CREATE TABLE history (                      -- a row for each minute that was watched
            at INTEGER PRIMARY KEY,                 -- when the minute began: Unix time
            seconds REAL NOT NULL,                  -- how long of it the counts speak of
            accepted INTEGER NOT NULL,              -- messages
            stored INTEGER NOT NULL,                -- messages
            refused INTEGER NOT NULL,               -- requests
            dead INTEGER NOT NULL,                  -- messages that became dead letters
            waiting INTEGER,                        -- most that waited; NULL here: not known
            oldest_seconds REAL,                    -- the longest that one had waited
            p50_seconds REAL,                       -- from 202 to the row; NULL: none was stored
            p99_seconds REAL,
            disk_free_bytes INTEGER                 -- fewest bytes free on the data's disk
        )
        """
    )


@_migrations()
def m014_delayed_messages(db: "Database") -> None:
    """Add the messages that wait for a time of their own before they become rows."""
    for statement in (
        """
        CREATE TABLE delayed_messages (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,                -- as the 202 gave it
            topic TEXT NOT NULL,
            body TEXT NOT NULL,                     -- TEXT or BLOB, as in messages
            content_type TEXT,
            meta TEXT,
            accepted_at TEXT NOT NULL,              -- when the API took it
            due_at TEXT NOT NULL,                   -- when it becomes a row, or goes if cancelled
            cancelled_at TEXT                       -- NULL: it was not
        )
        """,
        "CREATE INDEX delayed_messages_due ON delayed_messages (due_at)",
        "CREATE INDEX delayed_messages_topic ON delayed_messages (topic, due_at)",
    ):
        db.execute(statement)


@_migrations()
def m015_subscriptions(db: "Database") -> None:
    """Add subscriptions, from which consumers pull, and how each unfinished message stands.

    A message below the cursor that has no row is acknowledged; one above it was never handed out.
    The trigger costs the deletion of a message a look into a small table, and nobody has to search
    for rows without a message.
    """
    for statement in (
        """
        CREATE TABLE subscriptions (
            number INTEGER PRIMARY KEY AUTOINCREMENT,  -- of this one; a later one of its name
            name TEXT NOT NULL UNIQUE,                 -- has another
            topics TEXT NOT NULL,                   -- JSON array of patterns
            lease_seconds INTEGER NOT NULL,         -- unless a receive says another
            most_attempts INTEGER NOT NULL,         -- then a message is given up
            created_at TEXT NOT NULL,
            cursor INTEGER NOT NULL,                -- seq; all up to here was handed out
            acknowledged INTEGER NOT NULL DEFAULT 0,
            gone INTEGER NOT NULL DEFAULT 0         -- deleted before they were acknowledged
        )
        """,
        """
        CREATE TABLE leases (                       -- messages handed out and not acknowledged
            seq INTEGER NOT NULL,                   -- the message's
            subscription INTEGER NOT NULL,          -- its number
            state TEXT NOT NULL,                    -- leased, waiting or dead
            attempt INTEGER NOT NULL,               -- how often it was handed out
            until INTEGER NOT NULL,                 -- Unix time in ms: end, due from, or death
            lease TEXT NOT NULL,                    -- id of the last lease; empty: none counts
            reason TEXT NOT NULL,                   -- why it came back or was given up
            PRIMARY KEY (seq, subscription)
        ) WITHOUT ROWID
        """,
        "CREATE INDEX leases_due ON leases (subscription, state, until)",
        """
        CREATE TRIGGER appliance_leased_deleted AFTER DELETE ON messages BEGIN
            UPDATE subscriptions SET gone = gone + 1
            WHERE number IN (SELECT subscription FROM leases WHERE seq = old.seq);
            DELETE FROM leases WHERE seq = old.seq;
        END
        """,
    ):
        db.execute(statement)


@_migrations()
def m016_endpoints(db: "Database") -> None:
    """Add where stored messages go on to, how far each endpoint is, and what came of it.

    What has been delivered is a place (`cursor`) and no row for each message; only a message whose
    delivery failed has one, or a topic whose order it holds up.
    """
    for statement in (
        """
        CREATE TABLE endpoints (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            name TEXT NOT NULL UNIQUE,
            url TEXT NOT NULL,
            topics TEXT NOT NULL,                   -- JSON array of patterns
            conditions TEXT NOT NULL,               -- JSON array of conditions on JSON bodies
            settings TEXT NOT NULL,                 -- JSON object (see model.endpoint_settings)
            state TEXT NOT NULL,                    -- active or paused
            reason TEXT NOT NULL,                   -- why it is paused, for people
            created_at TEXT NOT NULL,
            changed_at TEXT NOT NULL,
            cursor INTEGER NOT NULL,                -- all messages up to this seq are dealt with
            failures INTEGER NOT NULL DEFAULT 0,    -- failed attempts since the last good one
            broken_at REAL,                         -- Unix time of the first; NULL: it is well
            retry_at REAL,                          -- when it is tried again; NULL: at once
            trouble TEXT NOT NULL DEFAULT '',       -- what is wrong with it now, for people
            delivered INTEGER NOT NULL DEFAULT 0,   -- messages
            failed INTEGER NOT NULL DEFAULT 0,      -- attempts
            given_up INTEGER NOT NULL DEFAULT 0,    -- messages
            gone INTEGER NOT NULL DEFAULT 0,        -- messages deleted before they were delivered
            delivered_at TEXT                       -- when the last one was
        )
        """,
        """
        CREATE TABLE endpoint_secrets (             -- readable: requests are made with them
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            endpoint INTEGER NOT NULL,
            header TEXT,                            -- whose value it is; NULL: messages are signed
            secret TEXT NOT NULL,
            created_at TEXT NOT NULL,
            expires_at TEXT                         -- NULL: never; set while it is replaced
        )
        """,
        "CREATE INDEX endpoint_secrets_endpoint ON endpoint_secrets (endpoint)",
        """
        CREATE TABLE deliveries_due (               -- messages whose delivery failed so far
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            endpoint INTEGER NOT NULL,
            seq INTEGER NOT NULL,                   -- of the message
            message_id TEXT NOT NULL,
            topic TEXT NOT NULL,
            state TEXT NOT NULL,                    -- waiting, given-up, or gone: it was deleted
            attempts INTEGER NOT NULL,
            first_at REAL NOT NULL,                 -- Unix time of the first attempt
            due_at REAL,                            -- Unix time; NULL unless waiting
            status INTEGER,                         -- of the last attempt; NULL: no answer
            error TEXT NOT NULL,                    -- the same in words
            UNIQUE (endpoint, seq)
        )
        """,
        """
        CREATE INDEX deliveries_due_next ON deliveries_due (endpoint, due_at)
        WHERE state = 'waiting'
        """,
        "CREATE INDEX deliveries_due_state ON deliveries_due (endpoint, state, id)",
        """
        CREATE TABLE delivery_lanes (               -- topics that wait for a message that failed
            endpoint INTEGER NOT NULL,
            topic TEXT NOT NULL,
            cursor INTEGER NOT NULL,                -- messages of the topic up to here are done
            attempts INTEGER NOT NULL,              -- of the next one
            first_at REAL NOT NULL,                 -- Unix time of its first attempt
            due_at REAL NOT NULL,
            error TEXT NOT NULL,
            PRIMARY KEY (endpoint, topic)
        ) WITHOUT ROWID
        """,
        """
        CREATE TABLE deliveries (                   -- attempts, bounded in number and age
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            endpoint INTEGER NOT NULL,
            seq INTEGER NOT NULL,                   -- of the message
            message_id TEXT NOT NULL,
            topic TEXT NOT NULL,
            attempt INTEGER NOT NULL,               -- 1 is the first
            at TEXT NOT NULL,                       -- when it began
            took_ms INTEGER NOT NULL,
            status INTEGER,                         -- NULL: no answer
            error TEXT NOT NULL,                    -- why it failed, in words; empty: it did not
            answer TEXT NOT NULL                    -- how the answer's body begins
        )
        """,
        "CREATE INDEX deliveries_endpoint ON deliveries (endpoint, id)",
        "CREATE INDEX deliveries_seq ON deliveries (seq)",
        """
        CREATE TRIGGER endpoints_removed AFTER DELETE ON endpoints BEGIN
            DELETE FROM endpoint_secrets WHERE endpoint = old.id;
            DELETE FROM deliveries_due WHERE endpoint = old.id;
            DELETE FROM delivery_lanes WHERE endpoint = old.id;
        END
        """,
    ):
        db.execute(statement)


@_migrations()
def m017_replays(db: "Database") -> None:
    """Add what is sent again: to an endpoint, or to a topic.

    Like a delivery, a replay is a place (`cursor`) and no row for each message. Only the numbers
    that a query found are kept, because it might find others later.
    """
    for statement in (
        """
        CREATE TABLE replays (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            endpoint INTEGER,                       -- NULL: it goes to a topic
            target TEXT NOT NULL,                   -- name of the endpoint, or the topic
            selection TEXT NOT NULL,                -- JSON object
            state TEXT NOT NULL,                    -- running, stopped, done or failed
            reason TEXT NOT NULL,                   -- why it failed, for people
            after INTEGER NOT NULL,                 -- what is selected lies behind this seq
            until INTEGER NOT NULL,                 -- and up to this one
            cursor INTEGER NOT NULL,                -- all up to here is dealt with
            messages INTEGER,                       -- selected; NULL: not counted to the end
            sent INTEGER NOT NULL DEFAULT 0,        -- delivered, or rows of the topic
            gone INTEGER NOT NULL DEFAULT 0,        -- deleted before their turn
            created_at TEXT NOT NULL,
            changed_at TEXT NOT NULL,
            ended_at TEXT,                          -- NULL: it is neither done nor failed
            who TEXT NOT NULL,
            address TEXT NOT NULL
        )
        """,
        "CREATE INDEX replays_open ON replays (state, seq) WHERE ended_at IS NULL",
        """
        CREATE TABLE replay_parts (                 -- numbers that a query found, in parts
            replay TEXT NOT NULL,
            last INTEGER NOT NULL,                  -- the greatest one of the part
            count INTEGER NOT NULL,
            packed BLOB NOT NULL,                   -- all of them (see model.seq_parts)
            PRIMARY KEY (replay, last)
        )
        """,
        """
        CREATE TRIGGER replays_ended AFTER UPDATE OF ended_at ON replays
        WHEN new.ended_at IS NOT NULL BEGIN
            DELETE FROM replay_parts WHERE replay = old.id;
        END
        """,
        # Of a message that failed: the replay that it belongs to; NULL: none.
        "ALTER TABLE deliveries_due ADD COLUMN replay TEXT",
        """
        CREATE INDEX deliveries_due_replay ON deliveries_due (replay, state)
        WHERE replay IS NOT NULL
        """,
        """
        CREATE TRIGGER endpoints_removed_replays AFTER DELETE ON endpoints BEGIN
            UPDATE replays SET state = 'failed', reason = 'the endpoint was removed',
                changed_at = strftime('%Y-%m-%dT%H:%M:%fZ'),
                ended_at = strftime('%Y-%m-%dT%H:%M:%fZ')
            WHERE endpoint = old.id AND ended_at IS NULL;
        END
        """,
    ):
        db.execute(statement)


@_migrations()
def m018_handlers(db: "Database") -> None:
    """Add the messages that wait for a handler, and what became of those that were handled.

    Both lie beside `messages`: a handler's results become rows there, and nothing else does.
    """
    for statement in (
        """
        CREATE TABLE handler_messages (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,                -- as the 202 gave it
            topic TEXT NOT NULL,
            body TEXT NOT NULL,                     -- TEXT or BLOB, as in messages
            received_at TEXT NOT NULL,
            content_type TEXT,
            meta TEXT,
            function TEXT NOT NULL,                 -- that gets it: MODULE:NAME
            attempts INTEGER NOT NULL DEFAULT 0,    -- how often that failed
            error TEXT NOT NULL DEFAULT '',         -- why it failed last, for people
            holder TEXT NOT NULL DEFAULT '',        -- the process that has it; empty: none
            due_at INTEGER NOT NULL DEFAULT 0       -- Unix time in ms: not before it
        )
        """,
        "CREATE INDEX handler_messages_due ON handler_messages (function, holder, due_at, seq)",
        """
        CREATE TABLE handled_messages (             -- one that comes again is not handled again
            id TEXT PRIMARY KEY,
            topic TEXT NOT NULL,
            digest BLOB NOT NULL,                   -- SHA-256 of the body
            handled_at TEXT NOT NULL,
            outcome TEXT NOT NULL,                  -- handled, dropped or dead
            results INTEGER NOT NULL                -- how many
        ) WITHOUT ROWID
        """,
        "CREATE INDEX handled_messages_topic ON handled_messages (topic, handled_at)",
    ):
        db.execute(statement)


@_migrations()
def m019_expirations(db: "Database") -> None:
    """Add the times at which messages with an end are over, and a count of redeliveries."""
    for statement in (
        """
        CREATE TABLE expirations (
            seq INTEGER PRIMARY KEY,                -- of the message
            expires_at TEXT NOT NULL                -- as the message's meta says it
        )
        """,
        "CREATE INDEX expirations_due ON expirations (expires_at)",
        """
        CREATE INDEX delayed_messages_waiting ON delayed_messages (due_at, topic)
        WHERE cancelled_at IS NULL                  -- counted without a look at the rows
        """,
        # how often a subscription has handed a message out once more
        "ALTER TABLE subscriptions ADD COLUMN redelivered INTEGER NOT NULL DEFAULT 0",
    ):
        db.execute(statement)


@functools.cache
def _count() -> int:
    return len(_migrations)


def migrate(path: Path) -> list[str]:
    """Bring the database at `path` to this program's schema; make it if there is none.

    Processes that migrate at once wait for one another. Returns the names of the changes that were
    applied. Raises SchemaError for a database newer than this program, MovedError for one that was
    left for another, StoreLockedError where another process writes for seconds, StoreError for any
    other failure.
    """
    with _alone(path):
        try:
            return _apply(path)
        except sqlite3.Error as error:
            raise store_error(error, path) from error
        except OSError as error:
            raise StoreError(f"{path}: can't be made: {error.strerror}") from error


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock of our own.

    Two processes that create a database in WAL mode at once get "database is locked", whatever
    their timeout.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = locks.open_file(paths.with_suffix(path, ".migrate"))
    except OSError as error:
        raise StoreError(f"{path}: can't be made: {error.strerror}") from error
    try:
        locks.take(descriptor, patience=None)
        yield
    finally:
        os.close(descriptor)


def _apply(path: Path) -> list[str]:
    if not path.exists() or path.stat().st_size == 0:
        _create(path)
    connection = connect(path, readonly=False)
    try:
        refuse_newer(connection, path)
        closed.refuse(connection, path)
        from sqlite_utils import Database  # noqa: PLC0415

        db = Database(connection, execute_plugins=False)
        names = [migration.name for migration in _migrations.pending(db)]
        if names:
            _migrations.apply(db)
        if _version(connection) != _count():
            connection.execute(f"PRAGMA user_version = {_count()}")
        return names
    finally:
        connection.close()


def _create(path: Path) -> None:
    """Make an empty database with the settings that can't be changed later without a copy.

    It gets its name when it has them all: processes that wait for it open it at any moment.
    """
    new = paths.with_suffix(path, ".new")
    for suffix in ("", *paths.BESIDE):
        paths.with_suffix(new, suffix).unlink(missing_ok=True)
    connection = sqlite3.connect(new, isolation_level=None)
    try:
        connection.execute(f"PRAGMA page_size = {_PAGE_SIZE}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()
    files.sync(new)
    for suffix in paths.BESIDE:  # of a database that was removed: they would be read into this one
        paths.with_suffix(path, suffix).unlink(missing_ok=True)
    new.replace(path)
    files.sync(path.parent)


def _version(connection: Any) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def refuse_newer(connection: Any, path: Path) -> None:
    """Raise SchemaError where a newer program has migrated the database."""
    version = _version(connection)
    if version > _count():
        raise SchemaError(
            f"{path}: schema {version} is newer than this program's ({_count()}); "
            "start the newer program again, or restore a backup from before it"
        )


def versions(connection: Any) -> tuple[int, int]:
    """Return the database's schema, and this program's."""
    return _version(connection), _count()


def new_database() -> Any:
    """Return a connection to an empty database in memory, with this program's schema."""
    from sqlite_utils import Database  # noqa: PLC0415

    db = Database(memory=True)
    _migrations.apply(db)
    return db.conn


def check(connection: Any, path: Path) -> None:
    """Raise SchemaError unless the database has this program's schema."""
    try:
        refuse_newer(connection, path)
        version = _version(connection)
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    if version < _count():
        raise SchemaError(f"{path}: schema {version}, wanted {_count()}; run appliance migrate")
