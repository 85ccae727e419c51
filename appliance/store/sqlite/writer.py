"""Writes envelopes: many in one transaction, each message once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from appliance.errors import StoreError, UnstorableError
from appliance.machine import heap
from appliance.machine.bell import Bell
from appliance.model.contents import Content
from appliance.model.handler_rules import HandlerRules
from appliance.model.tallies import StoreTally
from appliance.store.sql.handler_tables import HandledTopics, remembered_topics
from appliance.store.sql.ledger_table import LedgerTable, accept_missing
from appliance.store.sql.message_writer import MessageWriter
from appliance.store.sqlite import closed, migrations
from appliance.store.sqlite.database import connect, sqlite3, store_error
from appliance.store.sqlite.message_rows import SqliteRows
from appliance.store.sqlite.open_files import OpenFiles, forget_missing
from appliance.store.sqlite.tables import check_tables, takes_a_row

#: Pages in the WAL before a commit also checkpoints: 40 MB of 8 KiB pages. SQLite's default of
#: 1000 checkpoints so often that batches were stored at two thirds of the speed.
_CHECKPOINT_PAGES: Final = 5000
#: Bytes to which a checkpointed WAL is cut.
_WAL_LIMIT: Final = 64 * 2**20


class SqliteWriter(MessageWriter):
    """Writes on a connection of its own; `rules` say which messages wait for a handler.

    Opening one raises StoreError where the database can't be opened, SchemaError where its schema
    is not this program's, MovedError where it was left for another one, TablesError where its
    tables were changed so that nothing can be stored, LostCommitsError where another program took
    away what was stored last.
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
        try:
            forget_missing(path)
            self._connection = connect(path, readonly=False)
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from error
        try:
            migrations.check(self._connection, path)
            closed.refuse(self._connection, path)
            remembered = self._check_tables()
            self._connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            self._connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT}")
            self._ledger = LedgerTable(self._connection)
            handled = HandledTopics(rules or HandlerRules(), remembered)
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
        super().__init__(tally or StoreTally(), bell, handlers_bell, handled)

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
        self._close_bells()

    def check(self) -> None:
        """See whether the files are still those that were opened, and whole; save what can be.

        Raises StoreError, or LostCommitsError, where they are not; the writer must then be closed.
        """
        self._files.check()

    def rest(self) -> None:
        """Give back SQLite's cache of pages: nothing comes at the moment. Raises StoreError.

        After many messages it has 16 MB; the few pages that the next message needs are in the
        system's cache.
        """
        try:
            self._connection.execute("PRAGMA shrink_memory")
        except sqlite3.Error as error:
            raise store_error(error, self._path) from error
        heap.give_back()

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
            return self._store_all(contents, account=account)
        except StoreError:
            raise
        except Exception as error:  # clients decide what the contents are
            # Not only SQLite's errors: a number too large for it is an OverflowError. No envelope
            # that a client can send must end the worker, which would receive it again.
            raise _failure(error, self._path) from error

    def _begin(self) -> SqliteRows:
        self._connection.execute("BEGIN IMMEDIATE")
        return SqliteRows(self._connection)

    def _commit(self) -> None:
        self._connection.execute("COMMIT")
        self._files.check()  # a log that was cut meanwhile lacks what was stored before, or now

    def _roll_back(self) -> None:
        self._connection.execute("ROLLBACK")

    def _takes_a_row(self, topics: Sequence[str]) -> bool:
        return takes_a_row(self._connection, topics)

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


def _failure(error: Exception, path: Path) -> StoreError:
    """Return UnstorableError for an error of the contents, StoreError for the database's own."""
    if isinstance(error, sqlite3.Error):
        return store_error(error, path)
    return UnstorableError(f"{type(error).__name__}: {error}")
