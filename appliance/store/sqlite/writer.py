"""Store envelopes: one transaction for many, each message once."""

import re
from collections.abc import Iterable, Sequence
from itertools import filterfalse
from pathlib import Path
from typing import Any, Final

from appliance.errors import EnvelopeError, StoreError, UnstorableError
from appliance.model.contents import Content, DeadEnvelope, DeadLetter, LedgerReport
from appliance.model.ids import PREFIX_LENGTH
from appliance.model.timestamps import now
from appliance.model.wire import Envelope, Kind, Message, as_bytes, as_text, unpack
from appliance.store.sqlite import migrations, sources
from appliance.store.sqlite.connection import connect, sqlite3, store_error

#: Pages in the WAL before a commit also checkpoints: 40 MB of 8 KiB pages. SQLite's default of
#: 1000 checkpoints so often that batches were stored at two thirds of the speed.
_CHECKPOINT_PAGES: Final = 5000
#: Bytes to which a checkpointed WAL is cut.
_WAL_LIMIT: Final = 64 * 2**20

_INSERT: Final = """
    INSERT INTO messages (id, topic, body, received_at) VALUES (?, ?, ?, ?)
    ON CONFLICT (id) DO NOTHING
"""
#: SQLite splits the batch itself: nothing is done in Python for a line. What is not a string
#: becomes NULL, which the table refuses, and with it the whole envelope.
_INSERT_LINES: Final = """
    INSERT INTO messages (id, topic, body, received_at)
    SELECT ? || printf('%08x', key + ?), ?, CASE type WHEN 'text' THEN value END, ?
    FROM json_each(?) WHERE true
    ON CONFLICT (id) DO NOTHING
"""
#: Escapes that SQLite takes as they are and that make no UTF-8 or a NUL. We never write them.
_ODD_ESCAPE: Final = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_INSERT_DEAD: Final = """
    INSERT INTO dead_letters (id, topic, body, reason, error, received_at, dead_at)
    VALUES (?, ?, ?, ?, ?, ?, ?)
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
#: SQLite's names of errors that lie in what it was given, or in what the schema says to it. Any
#: other (a lock, a full disk, an I/O error, a damaged file) is the database's own.
_OF_CONTENT: Final = tuple(
    f"SQLITE_{name}" for name in ("CONSTRAINT", "TOOBIG", "MISMATCH", "RANGE", "MISUSE", "ERROR")
)
_COUNT_SINCE: Final = """
    SELECT topic, count(*), sum(octet_length(body)), min(received_at), max(received_at)
    FROM messages WHERE seq > ? GROUP BY topic
"""


class Writer:
    """The one connection that writes; used by one thread at a time.

    Raises StoreError where the database can't be opened, SchemaError where it is not this
    program's.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = connect(path, readonly=False)
        try:
            migrations.check(self._connection, path)
            self._connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            self._connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")
            self._ledger = sources.Ledger(self._connection)
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def store(self, contents: Sequence[Content], *, account: bool = True) -> int:
        """Store all of it in one transaction that is on disk when this returns.

        Without `account` their numbers are not written down: the caller gives them again, as
        reports, before it acknowledges anything of these.

        A message that is stored already is not stored again; one whose id is stored with another
        body becomes a dead letter (`conflict`), as does an envelope that can't be decoded
        (`undecodable`). Returns how many envelopes are found to be missing by the numbers of
        these. Raises UnstorableError where something of it is at fault and not the database,
        StoreError otherwise; nothing is stored then, and the writer must be closed.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            ledgers = _Transaction(self._connection).store(contents)
            missing = self._account_for(ledgers) if account and ledgers else 0
            self._connection.execute("COMMIT")
        except StoreError:
            raise
        except Exception as error:  # a client decides what is in it
            # Not only SQLite's: a number too large for it is an OverflowError. Whatever a client
            # found to put into an envelope must not end the worker, which would get it again.
            raise _failure(error, self._path) from error
        return missing

    def _account_for(self, ledgers: Sequence[tuple[str | bytes, str]]) -> int:
        """Write the numbers down; where that can't be done, no message is at fault."""
        try:
            return self._ledger.record(ledgers)
        except sqlite3.Error as error:
            raise store_error(error, self._path) from error

    def accept_missing(self) -> int:
        """Count the envelopes that are missing as known; return how many. Raises StoreError."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            accepted = sources.accept(self._connection)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise store_error(error, self._path) from error
        return accepted


class _Transaction:
    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._rows: list[tuple[str, str, str | bytes, str]] = []
        self._stored: list[tuple[Envelope, str]] = []  # and the time of its last message
        self._all_new = True
        self._dead: list[DeadLetter] = []
        self._given_up: list[DeadEnvelope] = []
        last = connection.execute(
            "SELECT seq FROM sqlite_sequence WHERE name = 'messages'"
        ).fetchone()
        self._last_seq = last[0] if last else 0

    def store(self, contents: Sequence[Content]) -> list[tuple[str | bytes, str]]:
        """Store it, and return what came with it for the ledger."""
        ledgers: list[tuple[str | bytes, str]] = []
        for content in contents:
            if content.ledger:
                ledgers.append((content.ledger, content.received_at))
            if isinstance(content, LedgerReport):
                continue
            if isinstance(content, DeadLetter):
                self._dead.append(content)
                continue
            if isinstance(content, DeadEnvelope):
                self._given_up.append(content)
                continue
            try:
                self._stored.append((content, self._add(content)))
            except EnvelopeError as error:
                self._dead.append(_dead(content, error.reason, str(error)))
        self._flush()
        if not self._all_new:
            self._find_conflicts()
        self._connection.executemany(_ADD_TO_TOPIC, self._sums())
        for given_up in self._given_up:
            self._dead += filterfalse(self._is_stored, given_up.letters())
        # One that dies again, its letter still there, is marked by its time: whoever has just sent
        # it again must not remove it.
        self._connection.executemany(
            _INSERT_DEAD,
            [(d.id, d.topic, d.body, d.reason, d.error, d.received_at, now()) for d in self._dead],
        )
        return ledgers

    def _add(self, envelope: Envelope) -> str:
        if envelope.kind is Kind.LINES and _is_for_sqlite(envelope.body):
            self._flush()
            self._add_lines(envelope)
            return envelope.received_at
        topic, messages = envelope.topic, unpack(envelope)
        self._rows += [(m.id, topic, m.body, m.received_at) for m in messages]
        return messages[-1].received_at

    def _flush(self) -> None:
        if self._rows:
            done = self._connection.executemany(_INSERT, self._rows).rowcount
            self._all_new &= done == len(self._rows)
            self._rows = []

    def _add_lines(self, envelope: Envelope) -> None:
        self._connection.execute("SAVEPOINT lines")
        try:
            if self._insert_lines(envelope) != envelope.count:
                self._all_new = False
                unpack(envelope)  # it came before, or it is not what it says
        except EnvelopeError:
            self._connection.execute("ROLLBACK TO lines")
            self._connection.execute("RELEASE lines")
            raise
        self._connection.execute("RELEASE lines")

    def _insert_lines(self, envelope: Envelope) -> int:
        prefix, first = envelope.id[:PREFIX_LENGTH], int(envelope.id[PREFIX_LENGTH:], 16)
        try:
            text = envelope.body.decode()
            done: int = self._connection.execute(
                _INSERT_LINES, (prefix, first, envelope.topic, envelope.received_at, text)
            ).rowcount
        except UnicodeDecodeError as error:
            raise EnvelopeError("undecodable", f"lines: {error}") from error
        except sqlite3.IntegrityError:
            unpack(envelope)  # not all strings; else it is the schema that refuses them
            raise
        except sqlite3.OperationalError as error:
            if "JSON" in str(error):
                raise EnvelopeError("undecodable", f"lines: {error}") from error
            raise
        return done

    def _is_stored(self, letter: DeadLetter) -> bool:
        """Whether it is a row: the broker gives up what was committed and not acknowledged, too."""
        row = self._connection.execute(
            "SELECT topic, body FROM messages WHERE id = ?", (letter.id,)
        ).fetchone()
        return bool(row == (letter.topic, as_text(letter.body)))

    def _find_conflicts(self) -> None:
        """Tell apart what came twice from what came with an id that another message has."""
        for envelope, _ in self._stored:
            for message in _unpacked(envelope):
                row = self._connection.execute(
                    "SELECT topic, body FROM messages WHERE id = ?", (message.id,)
                ).fetchone()
                if row != (envelope.topic, message.body):
                    self._dead.append(_conflict(envelope.topic, message))

    def _sums(self) -> Iterable[tuple[str, int, int, str, str]]:
        """Return (topic, messages, bytes, first time, last time) of what was inserted."""
        if not self._all_new:
            rows: list[Any] = self._connection.execute(_COUNT_SINCE, (self._last_seq,)).fetchall()
            return rows
        sums: dict[str, tuple[str, int, int, str, str]] = {}
        for envelope, until in self._stored:
            topic, since = envelope.topic, envelope.received_at
            _, count, size, first, last = sums.get(topic, (topic, 0, 0, since, until))
            sums[topic] = (
                topic,
                count + envelope.count,
                size + envelope.size,
                min(first, since),
                max(last, until),
            )
        return sums.values()


def _failure(error: Exception, path: Path) -> StoreError:
    """Tell what the database can't do now from what it will never take."""
    name = getattr(error, "sqlite_errorname", "")
    if isinstance(error, sqlite3.Error) and not name.startswith(_OF_CONTENT):
        return store_error(error, path)
    return UnstorableError(f"{type(error).__name__}: {error}")


def _is_for_sqlite(body: bytes) -> bool:
    """Whether SQLite would split it as we do; an object's keys, for one, are no numbers."""
    return body.startswith(b"[") and not (b"\\u" in body and _ODD_ESCAPE.search(body))


def _unpacked(envelope: Envelope) -> list[Message]:
    """Return the messages of an envelope that is stored.

    SQLite reads some JSON (single quotes, comments) that we never write and don't read: whoever
    sent such lines has got their rows, and they can't conflict with anything of ours.
    """
    try:
        return unpack(envelope)
    except EnvelopeError:
        return []


def _dead(envelope: Envelope, reason: str, error: str) -> DeadLetter:
    return DeadLetter(
        envelope.topic, envelope.id, envelope.received_at, envelope.body, reason, error
    )


def _conflict(topic: str, message: Message) -> DeadLetter:
    body = as_bytes(message.body)
    error = "another message with this id (the same idempotency key) was stored before"
    return DeadLetter(topic, message.id, message.received_at, body, "conflict", error)
