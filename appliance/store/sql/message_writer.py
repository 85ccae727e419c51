"""Writes envelopes: many in one transaction, each message once, on any engine."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import structlog

from appliance.errors import EnvelopeError, TablesError
from appliance.machine.bell import Bell
from appliance.model.contents import Content, LedgerReport
from appliance.model.tallies import StoreTally
from appliance.model.timestamps import now, seconds_between
from appliance.model.wire import Envelope, Kind, addressed, as_bytes, mixed, pack
from appliance.store.sql.handler_tables import HandledTopics
from appliance.store.sql.message_rows import MessageRows, RolledBackError
from appliance.store.sql.transaction import NothingTakenError, Transaction

#: Messages of one transaction where a trigger ends the whole transaction for one of them.
_PIECE: Final = 64

_log: Any = structlog.get_logger(__name__)


class MessageWriter:
    """Stores contents in transactions of the engine's; used by one thread at a time.

    It rings `bell` after each commit, where anybody waits, and closes it in the end; and
    `handlers_bell` where messages wait for a handler.
    """

    def __init__(
        self,
        tally: StoreTally,
        bell: Bell | None,
        handlers_bell: Bell | None,
        handled: HandledTopics,
    ) -> None:
        self._tally = tally
        self._bell = bell
        self._handlers_bell = handlers_bell
        self._handled = handled

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for messages to be stored, or did some seconds ago."""
        return self._bell is not None and self._bell.is_awaited

    def rest(self) -> None:
        """Give back memory that only makes storing faster, where the engine keeps such."""

    @abstractmethod
    def _begin(self) -> MessageRows:
        """Begin a transaction."""

    @abstractmethod
    def _commit(self) -> None:
        """Commit the transaction; it is on disk when this returns."""

    @abstractmethod
    def _roll_back(self) -> None:
        """Undo the transaction."""

    @abstractmethod
    def _takes_a_row(self, topics: Sequence[str]) -> bool:
        """Whether the database takes any row. No transaction is open."""

    @abstractmethod
    def _record(self, entries: Sequence[tuple[str | bytes, str]]) -> int:
        """Write ledger entries; an error of the database's here is no message's fault."""

    def _close_bells(self) -> None:
        for bell in (self._bell, self._handlers_bell):
            if bell is not None:
                bell.close()

    def _store_all(self, contents: Sequence[Content], *, account: bool) -> int:
        """Store all contents, in one transaction unless a trigger ends it for one of them."""
        try:
            return self._store(contents, account=account)
        except RolledBackError:
            return self._store_in_pieces(contents, account=account)

    def _store(self, contents: Sequence[Content], *, account: bool) -> int:
        """Store all contents in one transaction, once it is sure whose fault a refusal is."""
        try:
            return self._store_once(contents, account=account)
        except NothingTakenError as nothing:
            self._check_that_it_takes(nothing)
        return self._store_once(contents, account=account, sure=True)

    def _check_that_it_takes(self, nothing: NothingTakenError) -> None:
        """Undo a transaction that took nothing; raise TablesError where no other row is taken."""
        self._roll_back()
        if not self._takes_a_row(nothing.topics):
            raise TablesError(f"the database takes no row at all: {nothing}") from nothing

    def _store_once(
        self,
        contents: Sequence[Content],
        *,
        account: bool,
        known: Mapping[str, str] | None = None,
        sure: bool = False,
    ) -> int:
        transaction = Transaction(
            self._begin(), known=known, sure=sure, handled=self._handled or None
        )
        entries = transaction.store(contents)
        missing = self._record(entries) if account and entries else 0
        self._commit()
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
