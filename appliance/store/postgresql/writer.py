"""Writes envelopes into PostgreSQL: many in one transaction, each message once."""

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import psycopg
from psycopg.pq import TransactionStatus

from appliance.errors import StoreError, UnstorableError
from appliance.machine.bell import Bell
from appliance.model.contents import Content
from appliance.model.handler_rules import HandlerRules
from appliance.model.tallies import StoreTally
from appliance.model.timestamps import now
from appliance.store.postgresql import closed, migrations, refusal, standbys
from appliance.store.postgresql.connections import PostgresConnection, location, store_error
from appliance.store.postgresql.hosts import Hosts
from appliance.store.postgresql.message_rows import PostgresRows
from appliance.store.postgresql.patience import STATEMENT_SECONDS, ServerSilentError
from appliance.store.postgresql.pipeline import Pipeline, UnexpectedError
from appliance.store.postgresql.quick_rows import (
    SHARED_STATEMENTS,
    STATEMENTS,
    NotPlainError,
    QuickRows,
    SharedQuickRows,
)
from appliance.store.sql.handler_tables import HandledTopics, remembered_topics
from appliance.store.sql.ledger_table import LedgerTable, accept_missing
from appliance.store.sql.message_rows import MessageRows, Row
from appliance.store.sql.message_writer import MessageWriter

#: Newest rows, and topics, with which the database is tried.
_NEWEST: Final = 3
#: Seconds between two looks at the copies.
_COPIES_SECONDS: Final = 1.0
#: No client can send to it: its name is not a topic's.
_NOBODYS_TOPIC: Final = "_probe"


class _Ledger:
    """The connection on which the ledger is written: with the rows that are stored quickly."""

    def __init__(
        self, connection: PostgresConnection, quick: Callable[[], QuickRows | None]
    ) -> None:
        self._connection = connection
        self._quick = quick

    def execute(self, statement: str, values: Sequence[object] = ()) -> Any:
        return (self._quick() or self._connection).execute(statement, values)


class PostgresWriter(MessageWriter):
    """Writes on a connection of its own; `rules` say which messages wait for a handler.

    `shared` says that other workers store all the time too. Nothing is stored where fewer
    synchronous standbys than `copies` would have it.

    Opening one raises StoreError where there is no database that takes writes, SchemaError where
    its schema is not this program's, MovedError where it was left for another one.
    """

    def __init__(
        self,
        hosts: Hosts,
        tally: StoreTally | None = None,
        bell: Bell | None = None,
        *,
        rules: HandlerRules | None = None,
        handlers_bell: Bell | None = None,
        shared: bool = False,
        copies: int = 0,
    ) -> None:
        self._is_shared = shared
        self._hosts, self._copies = hosts, copies
        #: When it is looked next whether so many copies have what is stored.
        self._copies_due = 0.0
        self._connection = hosts.connect(readonly=False)
        self._url = url = hosts.url
        self._driver = self._connection.driver
        self._rows: PostgresRows | None = None
        #: Rows that are stored quickly, in the transaction under way; None: it is done with care.
        self._quick: QuickRows | None = None
        #: `seq` of the last message, as this writer knows it; None: not at all.
        self._last_seq: int | None = None
        try:
            self._driver.patience = STATEMENT_SECONDS
            migrations.check(self._connection, url)
            closed.refuse(self._connection, url)
            self._look_around()
            self._pipeline = Pipeline(self._driver)
            self._prepare()
            handled = HandledTopics(rules or HandlerRules(), remembered_topics(self._connection))
        except psycopg.Error as error:
            self._connection.close()
            raise store_error(error, url) from error
        except BaseException:
            self._connection.close()
            raise
        self._ledger = self._new_ledger()
        super().__init__(tally or StoreTally(), bell, handlers_bell, handled)

    def _new_ledger(self) -> LedgerTable:
        return LedgerTable(_Ledger(self._connection, lambda: self._quick))

    def _prepare(self) -> None:
        """Prepare the statements. Raises TablesError where they do not fit the tables."""
        try:
            for statement in SHARED_STATEMENTS if self._is_shared else STATEMENTS:
                self._pipeline.prepare(statement)
        except psycopg.Error as error:
            refusal.blame(error)
            raise

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
        self._close_bells()

    def check(self) -> None:
        """See whether the connection is still there. Raises StoreError."""
        try:
            for _ in range(2):  # why it was ended, and that it was
                self._driver.pgconn.consume_input()
        except psycopg.Error as error:
            raise store_error(error, self._url) from error
        if self._driver.closed:
            raise StoreError(f"{location(self._url)}: the connection is closed")
        self._hosts.refuse_old(self._connection)

    def _look_around(self) -> None:
        """See whether this is still the primary, and whether as many copies as wanted have a row.

        Raises OldPrimaryError, FewCopiesError.
        """
        self._hosts.refuse_old(self._connection)
        if self._copies and time.monotonic() >= self._copies_due:
            standbys.require(self._connection, self._copies, location(self._url))
            self._copies_due = time.monotonic() + _COPIES_SECONDS

    def store(self, contents: Sequence[Content], *, account: bool = True) -> int:
        """Store all contents in one transaction that is on disk when this returns.

        See `Writer`.
        """
        try:
            self._look_around()
            return self._store_all(contents, account=account)
        except StoreError:
            raise
        except psycopg.Error as error:
            if isinstance(error, ServerSilentError):
                self._hosts.put_last(*self._connection.server)
            raise store_error(error, self._url) from error
        except Exception as error:  # clients decide what the contents are
            raise UnstorableError(f"{type(error).__name__}: {error}") from error

    def accept_missing(self) -> int:
        """Acknowledge the missing envelopes; return how many they were. Raises StoreError."""
        try:
            with self._connection.driver.transaction():
                return accept_missing(self._connection)
        except psycopg.Error as error:
            raise store_error(error, self._url) from error

    def _store_all(self, contents: Sequence[Content], *, account: bool) -> int:
        """Store all contents: quickly where all is as usual, else with care."""
        if self._last_seq is not None:
            try:
                return self._store_quickly(contents, account=account)
            except (NotPlainError, UnexpectedError, UnicodeError):
                pass
            except psycopg.Error as error:
                if self._connection.driver.closed or not refusal.is_of_contents(error):
                    raise
            self._give_up_quickly()
        return super()._store_all(contents, account=account)

    def _store_quickly(self, contents: Sequence[Content], *, account: bool) -> int:
        assert self._last_seq is not None  # noqa: S101  # else this is not called
        if self._is_shared:
            self._quick = SharedQuickRows(self._pipeline)
        else:
            self._quick = QuickRows(self._pipeline, self._last_seq)
        return self._store_once(contents, account=account)

    def _give_up_quickly(self) -> None:
        """Undo what was tried, and remember nothing of it."""
        self._quick = self._last_seq = None
        self._ledger = self._new_ledger()
        if self._driver.info.transaction_status != TransactionStatus.IDLE:
            self._roll_back()

    def _begin(self) -> MessageRows:
        if self._quick is not None:
            return cast("MessageRows", self._quick)
        self._connection.execute("BEGIN")
        self._rows = PostgresRows(self._connection)
        return self._rows

    def _commit(self) -> None:
        if self._quick is not None:
            self._quick.run()
            last = self._quick.last
        else:
            assert self._rows is not None  # noqa: S101  # of `_begin`
            last = self._rows.last_seq()
        self._last_seq = None
        self._driver.commit_surely()
        self._last_seq, self._quick = last, None

    def _roll_back(self) -> None:
        self._connection.execute("ROLLBACK")

    def _record(self, entries: Sequence[tuple[str | bytes, str]]) -> int:
        try:
            return self._ledger.record(entries)
        except psycopg.Error as error:
            raise store_error(error, self._url) from error

    def _takes_a_row(self, topics: Sequence[str]) -> bool:
        """Whether the database takes any row; none is left behind.

        It is offered rows of these topics, of topics that it took lately, and of a topic that
        nobody uses; with bodies that it took lately, and with others.
        """
        newest = self._connection.execute(
            "SELECT topic, coalesce(body, ''), content_type, meta FROM messages "
            "ORDER BY seq DESC LIMIT ?",
            (_NEWEST,),
        ).fetchall()
        names = [*topics[:_NEWEST], *(row[0] for row in newest), _NOBODYS_TOPIC]
        nonce = uuid.uuid4().hex
        kinds = [(f'{{"probe":"{nonce}"}}', "application/json", "{}"), (nonce, "", "")]
        kinds += [(body, content_type or "", meta or "") for _, body, content_type, meta in newest]
        return any(
            self._takes((str(uuid.uuid4()), topic, body, now(), content_type, meta))
            for body, content_type, meta in kinds
            for topic in dict.fromkeys(names)
        )

    def _takes(self, row: Row) -> bool:
        rows = self._begin()
        try:
            return rows.insert([row], {}) == 1
        finally:
            self._roll_back()
