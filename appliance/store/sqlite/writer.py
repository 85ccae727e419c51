"""Writes envelopes: many in one transaction, each message once."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import structlog

from appliance.errors import EnvelopeError, StoreError, TablesError, UnstorableError
from appliance.machine.bell import Bell
from appliance.model.contents import Content, LedgerReport
from appliance.model.handler_rules import HandlerRules
from appliance.model.tallies import StoreTally
from appliance.model.timestamps import now, seconds_between
from appliance.model.wire import Envelope, Kind, addressed, as_bytes, mixed, pack
from appliance.store.sqlite import migrations
from appliance.store.sqlite.database import connect, sqlite3, store_error
from appliance.store.sqlite.handler_tables import HandledTopics, remembered_topics
from appliance.store.sqlite.ledger_table import LedgerTable, accept_missing
from appliance.store.sqlite.open_files import OpenFiles, forget_missing
from appliance.store.sqlite.tables import check_tables, takes_a_row
from appliance.store.sqlite.transaction import NothingTakenError, RolledBackError, Transaction

#: Pages in the WAL before a commit also checkpoints: 40 MB of 8 KiB pages. SQLite's default of
#: 1000 checkpoints so often that batches were stored at two thirds of the speed.
_CHECKPOINT_PAGES: Final = 5000
#: Bytes to which a checkpointed WAL is cut.
_WAL_LIMIT: Final = 64 * 2**20
#: Messages of one transaction where a trigger ends the whole transaction for one of them.
_PIECE: Final = 64

_log: Any = structlog.get_logger(__name__)


class SqliteWriter:
    """Writes on a connection of its own; used by one thread at a time.

    It rings `bell` after each commit, where anybody waits, and closes it in the end; and
    `handlers_bell` where messages wait for a handler, as `rules` say.

    Opening one raises StoreError where the database can't be opened, SchemaError where its schema
    is not this program's, TablesError where its tables were changed so that nothing can be stored,
    LostCommitsError where another program took away what was stored last.
    """

    def __init__(
        self,
        path: Path,
        tally: StoreTally | None = None,
        bell: Bell | None = None,
        *,
        rules: HandlerRules | None = None,
        handlers_bell: Bell | None = None,
    ) -> None:
        self._path = path
        self._bell = bell
        self._handlers_bell = handlers_bell
        self._tally = tally or StoreTally()
        try:
            forget_missing(path)
            self._connection = connect(path, readonly=False)
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from error
        try:
            migrations.check(self._connection, path)
            remembered = self._check_tables()
            self._connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            self._connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")
            self._ledger = LedgerTable(self._connection)
            self._handled = HandledTopics(rules or HandlerRules(), remembered)
            self._files = OpenFiles(path, self._connection)
        except OSError as error:
            self._connection.close()
            raise StoreError(f"{path}: {error.strerror}") from error
        except sqlite3.Error as error:
            self._connection.close()
            raise store_error(error, path) from error
        except BaseException:
            self._connection.close()
            raise

    def _check_tables(self) -> list[str]:
        """Check the tables on another connection; return the topics that had a handler.

        On one that has compiled these statements only to explain them, batches of lines were stored
        at 0.94 of the speed.
        """
        other = connect(self._path, readonly=True)
        try:
            check_tables(other)
            return remembered_topics(other)
        finally:
            other.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
        self._files.close()
        for bell in (self._bell, self._handlers_bell):
            if bell is not None:
                bell.close()

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for messages to be stored, or did some seconds ago."""
        return self._bell is not None and self._bell.is_awaited

    def check(self) -> None:
        """See whether the files are still those that were opened, and whole; save what can be.

        Raises StoreError, or LostCommitsError, where they are not; the writer must then be closed.
        """
        self._files.check()

    def store(self, contents: Sequence[Content], *, account: bool = True) -> int:
        """Store all contents in one transaction that is on disk when this returns.

        A message that is stored already is not stored again. One whose id is stored with another
        body becomes a dead letter (`conflict`), as does one that the database refuses
        (`unstorable`), an envelope that can't be decoded (`undecodable`), and a message that says
        so of itself; whatever came with it is stored. Returns how many envelopes the ledger entries
        of `contents` show to be missing.

        Without `account` the ledger entries are not written. The caller must pass them again, as
        reports, before it acknowledges any of the envelopes.

        Where a trigger of someone's ends the whole transaction for a message, several transactions
        store the contents; the ledger entries are written by the last one.

        Raises TablesError where the database takes no row at all, UnstorableError where it is not
        known which of the contents is at fault, LostCommitsError where what was stored last is
        gone, StoreError where the database is at fault. Then a part can be stored, which does no
        harm when the contents come again, and the writer must be closed.
        """
        try:
            self._files.check()
            try:
                return self._store(contents, account=account)
            except RolledBackError:
                return self._store_in_pieces(contents, account=account)
        except StoreError:
            raise
        except Exception as error:  # clients decide what the contents are
            # Not only SQLite's errors: a number too large for it is an OverflowError. No envelope
            # that a client can send must end the worker, which would receive it again.
            raise _failure(error, self._path) from error

    def _store(self, contents: Sequence[Content], *, account: bool) -> int:
        """Store all contents in one transaction, once it is sure whose fault a refusal is."""
        try:
            return self._store_once(contents, account=account)
        except NothingTakenError as nothing:
            self._check_that_it_takes(nothing)
        return self._store_once(contents, account=account, sure=True)

    def _check_that_it_takes(self, nothing: NothingTakenError) -> None:
        """Undo a transaction that took nothing; raise TablesError where no other row is taken."""
        self._connection.execute("ROLLBACK")
        if not takes_a_row(self._connection, nothing.topics):
            raise TablesError(f"the database takes no row at all: {nothing}") from nothing

    def _store_once(
        self,
        contents: Sequence[Content],
        *,
        account: bool,
        known: Mapping[str, str] | None = None,
        sure: bool = False,
    ) -> int:
        self._connection.execute("BEGIN IMMEDIATE")
        transaction = Transaction(
            self._connection, known=known, sure=sure, handled=self._handled or None
        )
        entries = transaction.store(contents)
        missing = self._record(entries) if account and entries else 0
        self._connection.execute("COMMIT")
        self._files.check()  # a log that was cut meanwhile lacks what was stored before, or now
        if self._bell is not None and self.is_awaited:
            self._bell.ring(transaction.ids())
        if transaction.waiting and (bell := self._handlers_bell) and bell.is_awaited:
            bell.ring(None)
        self._count(transaction, contents)
        if refused := transaction.refused:
            _log.error(
                "message refused by the database",
                messages=len(refused),
                error=next(iter(refused.values())),
            )
        return missing

    def _count(self, transaction: Transaction, contents: Sequence[Content]) -> None:
        """Count what is committed, and how long ago each envelope was accepted."""
        tally, moment = self._tally, now()
        tally.transactions += 1
        tally.stored += transaction.stored
        tally.duplicates += transaction.duplicates
        for reason, meta in transaction.dead:
            tally.note_dead(reason, meta)
        minute, seconds, observe = moment[:17], float(moment[17:23]), tally.lag.observe
        for content in contents:
            if type(content) is Envelope:  # no report, and none that nobody accepted
                at = content.received_at
                if at.startswith(minute):  # nearly always, and a fifth of the time
                    observe(max(0.0, seconds - float(at[17:23])), content.count)
                else:
                    observe(max(0.0, seconds_between(at, moment)), content.count)

    def _store_in_pieces(self, contents: Sequence[Content], *, account: bool) -> int:
        """Store the contents in small transactions, each again for every message that ends it."""
        for piece in _pieces(contents):
            known: dict[str, str] = {}
            sure = False
            while True:
                try:
                    self._store_once([piece], account=False, known=known, sure=sure)
                    break
                except RolledBackError as error:
                    if not error.message_id:
                        raise
                    known[error.message_id] = str(error)
                except NothingTakenError as nothing:
                    self._check_that_it_takes(nothing)
                    # Perhaps only since now: each message that it refused is offered once more.
                    known, sure = {}, True
        reports = [LedgerReport(each.ledger, each.received_at) for each in contents if each.ledger]
        return self._store(reports, account=True) if account and reports else 0

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


def _pieces(contents: Sequence[Content]) -> Iterator[Content]:
    """Yield the contents without their ledger entries, large envelopes cut into small ones."""
    for content in contents:
        if isinstance(content, LedgerReport):
            continue
        if not isinstance(content, Envelope) or content.kind is Kind.MESSAGE:
            yield content
            continue
        try:
            messages = addressed(content)
        except EnvelopeError:
            yield content
            continue
        for start in range(0, len(messages), _PIECE):
            part = messages[start : start + _PIECE]
            size = sum(len(as_bytes(each.body)) for _, each in part)
            if content.kind is Kind.MIXED:
                yield mixed(part, size)
            else:
                yield pack(content.topic, [each for _, each in part], size)


def _failure(error: Exception, path: Path) -> StoreError:
    """Return UnstorableError for an error of the contents, StoreError for the database's own."""
    if isinstance(error, sqlite3.Error):
        return store_error(error, path)
    return UnstorableError(f"{type(error).__name__}: {error}")
