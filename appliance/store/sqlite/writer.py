"""Writes envelopes: many in one transaction, each message once."""

import re
from collections.abc import Iterable, Sequence
from itertools import filterfalse
from pathlib import Path
from typing import Any, Final, NamedTuple

from appliance.errors import EnvelopeError, StoreError, UnstorableError
from appliance.model.contents import (
    Content,
    DeadEnvelope,
    DeadLetter,
    LedgerReport,
    dead_letter,
)
from appliance.model.ids import PREFIX_LENGTH
from appliance.model.timestamps import now
from appliance.model.wire import Envelope, Kind, Message, as_bytes, as_text, unpack
from appliance.store.sqlite import migrations
from appliance.store.sqlite.database import connect, sqlite3, store_error
from appliance.store.sqlite.ledger_table import LedgerTable, accept_missing

#: Pages in the WAL before a commit also checkpoints: 40 MB of 8 KiB pages. SQLite's default of
#: 1000 checkpoints so often that batches were stored at two thirds of the speed.
_CHECKPOINT_PAGES: Final = 5000
#: Bytes to which a checkpointed WAL is cut.
_WAL_LIMIT: Final = 64 * 2**20

#: Most messages have no content type and no meta. Python's sqlite3 looks for an adapter each time
#: that it binds None, which took 0.9 us: more than half of what the row costs. So they are bound
#: as empty texts, which neither can be.
_INSERT: Final = """
    INSERT INTO messages (id, topic, body, received_at, content_type, meta)
    VALUES (?, ?, ?, ?, nullif(?, ''), nullif(?, ''))
    ON CONFLICT (id) DO NOTHING
"""
#: SQLite splits the batch itself, so that Python does nothing for a line. A value that is no string
#: becomes NULL; the table refuses that, and with it the whole envelope.
_INSERT_LINES: Final = """
    INSERT INTO messages (id, topic, body, received_at, content_type, meta)
    SELECT ? || printf('%08x', key + ?), ?, CASE type WHEN 'text' THEN value END, ?, ?, ?
    FROM json_each(?) WHERE true
    ON CONFLICT (id) DO NOTHING
"""
#: Escapes that SQLite takes literally and that make invalid UTF-8 or a NUL. We never write them.
_ODD_ESCAPE: Final = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_INSERT_DEAD: Final = """
    INSERT INTO dead_letters (
        id, topic, body, reason, error, received_at, dead_at, content_type, meta
    ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id, reason, body) DO UPDATE SET dead_at = excluded.dead_at
"""
_ADD_TO_TOPIC: Final = """
    INSERT INTO topics (topic, messages, bytes, first_at, last_at) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (topic) DO UPDATE SET
        messages = messages + excluded.messages,
        bytes = bytes + excluded.bytes,
        first_at = min(first_at, excluded.first_at),
        last_at = max(last_at, excluded.last_at)
"""
#: How SQLite's names of errors begin that come from the values it was given, or from what the
#: schema says of them. Any other error (a lock, a full disk, an I/O error, a damaged file) is the
#: database's own.
_OF_CONTENT: Final = tuple(
    f"SQLITE_{name}" for name in ("CONSTRAINT", "TOOBIG", "MISMATCH", "RANGE", "MISUSE", "ERROR")
)
_CONFLICT: Final = "another message with this id (the same idempotency key) was stored before"
_COUNT_SINCE: Final = """
    SELECT topic, count(*), sum(octet_length(body)), min(received_at), max(received_at)
    FROM messages WHERE seq > ? GROUP BY topic
"""


class SqliteWriter:
    """Writes on a connection of its own; used by one thread at a time.

    Opening one raises StoreError where the database can't be opened, SchemaError where its schema
    is not this program's.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = connect(path, readonly=False)
        try:
            migrations.check(self._connection, path)
            self._connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            self._connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")
            self._ledger = LedgerTable(self._connection)
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def store(self, contents: Sequence[Content], *, account: bool = True) -> int:
        """Store all contents in one transaction that is on disk when this returns.

        A message that is stored already is not stored again. One whose id is stored with another
        body becomes a dead letter (`conflict`), as does an envelope that can't be decoded
        (`undecodable`), and a message that says so of itself. Returns how many envelopes the ledger
        entries of `contents` show to be missing.

        Without `account` the ledger entries are not written. The caller must pass them again, as
        reports, before it acknowledges any of the envelopes.

        Raises UnstorableError where one of the contents is at fault, StoreError where the database
        is. Nothing is stored then, and the writer must be closed.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            entries = _Transaction(self._connection).store(contents)
            missing = self._record(entries) if account and entries else 0
            self._connection.execute("COMMIT")
        except StoreError:
            raise
        except Exception as error:  # clients decide what the contents are
            # Not only SQLite's errors: a number too large for it is an OverflowError. No envelope
            # that a client can send must end the worker, which would receive it again.
            raise _failure(error, self._path) from error
        return missing

    def _record(self, entries: Sequence[tuple[str | bytes, str]]) -> int:
        """Write ledger entries; an error of SQLite's here is no message's fault."""
        try:
            return self._ledger.record(entries)
        except sqlite3.Error as error:
            raise store_error(error, self._path) from error

    def accept_missing(self) -> int:
        """Acknowledge the missing envelopes; return how many they were. Raises StoreError."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            accepted = accept_missing(self._connection)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise store_error(error, self._path) from error
        return accepted


class _Added(NamedTuple):
    """The messages of an envelope that are to be rows: how many, their bytes, their times."""

    envelope: Envelope
    messages: int
    size: int
    since: str
    until: str


class _Transaction:
    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._rows: list[tuple[str, str, str | bytes, str, str, str]] = []
        self._added: list[_Added] = []
        self._all_new = True
        self._dead: list[DeadLetter] = []
        self._given_up: list[DeadEnvelope] = []
        last = connection.execute(
            "SELECT seq FROM sqlite_sequence WHERE name = 'messages'"
        ).fetchone()
        self._last_seq = last[0] if last else 0

    def store(self, contents: Sequence[Content]) -> list[tuple[str | bytes, str]]:
        """Store all contents; return their ledger entries, each with its envelope's time."""
        entries: list[tuple[str | bytes, str]] = []
        for content in contents:
            if content.ledger:
                entries.append((content.ledger, content.received_at))
            if isinstance(content, LedgerReport):
                continue
            if isinstance(content, DeadLetter):
                self._dead.append(content)
                continue
            if isinstance(content, DeadEnvelope):
                self._given_up.append(content)
                continue
            try:
                self._add(content)
            except EnvelopeError as error:
                self._dead.append(_dead(content, error.reason, str(error)))
        self._flush()
        if not self._all_new:
            self._find_conflicts()
        self._connection.executemany(_ADD_TO_TOPIC, self._sums())
        for given_up in self._given_up:
            self._dead += filterfalse(self._is_stored, given_up.letters())
        # A message that dies again while its letter is still there gives the letter a new time, so
        # that a redrive under way does not remove it.
        self._connection.executemany(
            _INSERT_DEAD,
            [
                (
                    d.id,
                    d.topic,
                    d.body,
                    d.reason,
                    d.error,
                    d.received_at,
                    now(),
                    d.content_type,
                    d.meta,
                )
                for d in self._dead
            ],
        )
        return entries

    def _add(self, envelope: Envelope) -> None:
        at, size = envelope.received_at, envelope.size
        if envelope.kind is Kind.LINES and _can_be_split(envelope.body):
            self._flush()
            self._add_lines(envelope)
            self._added.append(_Added(envelope, envelope.count, size, at, at))
            return
        topic, messages = envelope.topic, unpack(envelope)
        if any(message.dead for message in messages):
            for message in messages:
                if message.dead:
                    self._dead.append(dead_letter(topic, message, *message.dead))
            messages = [message for message in messages if not message.dead]
            size = sum(len(as_bytes(message.body)) for message in messages)
        if messages:
            self._rows += [
                (m.id, topic, m.body, m.received_at, m.content_type or "", m.meta or "")
                for m in messages
            ]
            since, until = messages[0].received_at, messages[-1].received_at
            self._added.append(_Added(envelope, len(messages), size, since, until))

    def _flush(self) -> None:
        if self._rows:
            inserted = self._connection.executemany(_INSERT, self._rows).rowcount
            self._all_new &= inserted == len(self._rows)
            self._rows = []

    def _add_lines(self, envelope: Envelope) -> None:
        self._connection.execute("SAVEPOINT lines")
        try:
            if self._insert_lines(envelope) != envelope.count:
                self._all_new = False
                unpack(envelope)  # raises unless the envelope is sound and was stored before
        except EnvelopeError:
            self._connection.execute("ROLLBACK TO lines")
            self._connection.execute("RELEASE lines")
            raise
        self._connection.execute("RELEASE lines")

    def _insert_lines(self, envelope: Envelope) -> int:
        prefix, first = envelope.id[:PREFIX_LENGTH], int(envelope.id[PREFIX_LENGTH:], 16)
        try:
            text = envelope.body.decode()
            inserted: int = self._connection.execute(
                _INSERT_LINES,
                (prefix, first, envelope.topic, envelope.received_at, envelope.content_type,
                 envelope.meta, text),
            ).rowcount  # fmt: skip
        except UnicodeDecodeError as error:
            raise EnvelopeError("undecodable", f"lines: {error}") from error
        except sqlite3.IntegrityError:
            unpack(envelope)  # raises where a value is no string; else the schema refuses one
            raise
        except sqlite3.OperationalError as error:
            if "JSON" in str(error):
                raise EnvelopeError("undecodable", f"lines: {error}") from error
            raise
        return inserted

    def _is_stored(self, letter: DeadLetter) -> bool:
        """Whether the letter's message is stored.

        The broker also gives up envelopes that were committed and not acknowledged.
        """
        row = self._connection.execute(
            "SELECT topic, body FROM messages WHERE id = ?", (letter.id,)
        ).fetchone()
        return bool(row == (letter.topic, as_text(letter.body)))

    def _find_conflicts(self) -> None:
        """Make dead letters of messages that came with another message's id."""
        for envelope, *_ in self._added:
            for message in _unpacked(envelope):
                if message.dead:
                    continue
                row = self._connection.execute(
                    "SELECT topic, body FROM messages WHERE id = ?", (message.id,)
                ).fetchone()
                if row != (envelope.topic, message.body):
                    self._dead.append(dead_letter(envelope.topic, message, "conflict", _CONFLICT))

    def _sums(self) -> Iterable[tuple[str, int, int, str, str]]:
        """Return (topic, messages, bytes, first time, last time) of the inserted rows."""
        if not self._all_new:
            rows: list[Any] = self._connection.execute(_COUNT_SINCE, (self._last_seq,)).fetchall()
            return rows
        sums: dict[str, tuple[str, int, int, str, str]] = {}
        for added in self._added:
            topic = added.envelope.topic
            _, count, size, since, until = sums.get(topic, (topic, 0, 0, added.since, added.until))
            sums[topic] = (
                topic,
                count + added.messages,
                size + added.size,
                min(since, added.since),
                max(until, added.until),
            )
        return sums.values()


def _failure(error: Exception, path: Path) -> StoreError:
    """Return UnstorableError for an error of the contents, StoreError for the database's own."""
    name = getattr(error, "sqlite_errorname", "")
    if isinstance(error, sqlite3.Error) and not name.startswith(_OF_CONTENT):
        return store_error(error, path)
    return UnstorableError(f"{type(error).__name__}: {error}")


def _can_be_split(body: bytes) -> bool:
    """Whether SQLite splits the lines as we do; it would also take an object, and odd escapes."""
    return body.startswith(b"[") and not (b"\\u" in body and _ODD_ESCAPE.search(body))


def _unpacked(envelope: Envelope) -> list[Message]:
    """Return the messages of an envelope that is stored; none where we can't read it.

    SQLite reads some JSON (single quotes, comments) that we never write and don't read. Lines
    written so are stored, and can't conflict with any message of ours.
    """
    try:
        return unpack(envelope)
    except EnvelopeError:
        return []


def _dead(envelope: Envelope, reason: str, error: str) -> DeadLetter:
    return DeadLetter(
        envelope.topic, envelope.id, envelope.received_at, envelope.body, reason, error, "",
        envelope.content_type, envelope.meta,
    )  # fmt: skip
