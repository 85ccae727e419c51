"""One transaction: what a group of contents becomes, row by row or dead letter by dead letter.

Each message is one row or one dead letter. A row that the database refuses (a constraint or a
trigger of a user's) is left out, and everything beside it is stored: `executemany` ends at the row
that is refused, the rows before it are in the transaction, and the same iterator goes on behind it.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import filterfalse
from typing import Any, Final, NamedTuple

import orjson

from appliance.errors import EnvelopeError, StoreError
from appliance.model import meta as metas
from appliance.model.columns import Columns, columns
from appliance.model.contents import (
    Content,
    DeadEnvelope,
    DeadLetter,
    DelayedEnvelope,
    DeletionMark,
    DueMessages,
    ReplayCopies,
    dead_letter,
)
from appliance.model.handler_outcomes import HANDLER_FAILED, HandlerOutcomes, ReleasedMessages
from appliance.model.handler_rules import HandlerRules
from appliance.model.timestamps import now
from appliance.model.wire import (
    Addressed,
    Envelope,
    Kind,
    Message,
    addressed,
    as_bytes,
    as_text,
    mixed,
)
from appliance.store.sql.handler_tables import HandledTopics
from appliance.store.sql.message_rows import LinesRefusedError, MessageRows, Row
from appliance.store.sql.topic_sums import Sum, TopicSums

#: Escapes that engines take literally or refuse: they make invalid UTF-8 or a NUL. We never write
#: them.
_ODD_ESCAPE: Final = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
#: `dead_letters.reason` of messages that the database refuses.
_UNSTORABLE: Final = "unstorable"
_LEFT_OUT: Final = "a trigger of the database left it out without a word"
#: Lines that are stored together after a line among many was refused.
_PART: Final = 256
_CONFLICT: Final = "another message with this id (the same idempotency key) was stored before"


class _Dead(NamedTuple):
    """A dead letter, the content from which it comes, and its place in that."""

    content: Content
    place: int
    letter: DeadLetter


class NothingTakenError(StoreError):
    """Messages were refused, and no row was stored beside them: perhaps none ever is.

    `topics` are those of the refused messages.
    """

    def __init__(self, topics: list[str], message: str) -> None:
        super().__init__(message)
        self.topics = topics


class Transaction:
    """Fills the transaction that was begun on the connection of `table`.

    `known` are messages that the database refuses, each with the reason in its words: they are not
    offered to it again. `sure` says that the database does take rows, so that a refusal is the
    fault of what is refused. Messages of the topics in `handled` do not become rows now.
    """

    def __init__(
        self,
        table: MessageRows,
        *,
        known: Mapping[str, str] | None = None,
        sure: bool = False,
        handled: HandledTopics | None = None,
    ) -> None:
        self._table = table
        self._known = known or {}
        self._sure = sure
        self._handled = handled
        self._rows: list[Row] = []
        self._inserted: list[list[Row]] = []
        self._is_listed = True  # `_inserted` are all rows that were inserted
        self._added = TopicSums()
        self._waiting: list[Envelope] = []  # whose rows wait
        self._unsure: list[Envelope] = []  # of which not every message became a row just now
        #: id() of a part of a content -> the content, and the place of the part's first message
        self._parts: dict[int, tuple[Content, int]] = {}
        #: id -> the database's words, of rows that it refused
        self.refused: dict[str, str] = {}
        #: delayed messages that were due
        self.due = 0
        #: messages that became rows, and that were rows already
        self.stored = self.duplicates = 0
        #: messages that wait for a handler from now on, or go to another one
        self.waiting = 0
        #: ids of messages of which it is known now what their handler made of them
        self.settled: list[str] = []
        self._put_aside_already = 0
        self._unstored = 0  # messages that were to be rows, and are dead letters
        self._dead: list[_Dead] = []
        self._given_up: list[DeadEnvelope] = []
        self._marks: list[DeletionMark] = []
        self._any_ends = False  # a message has an end
        self._last_seq = table.last_seq()

    def store(self, contents: Sequence[Content]) -> list[tuple[str | bytes, str]]:
        """Store all contents; return their ledger entries, each with its envelope's time.

        Raises TablesError where the tables are not as they must be, NothingTakenError where no row
        was stored beside those that were refused, RolledBackError where the transaction is gone.
        """
        entries: list[tuple[str | bytes, str]] = []
        # Looked up once, so that it costs nothing without handlers. No member: it would keep this
        # object, and all its rows, until Python looks for cycles.
        add = self._add_or_put_aside if self._handled else self._add
        for content in contents:
            if content.ledger:
                entries.append((content.ledger, content.received_at))
            if not isinstance(content, Envelope):
                self._set_aside(content)
                continue
            try:
                add(content)
            except EnvelopeError as error:
                self._dead.append(_Dead(content, 0, _dead(content, error.reason, str(error))))
        self._flush()
        if self._unsure:
            self._account_for_each()
        self._count_in_topics()
        if self._any_ends:
            self._table.add_expirations(self._last_seq)
        for given_up in self._given_up:
            letters = filterfalse(self._is_stored, given_up.letters())
            self._dead += [_Dead(given_up, place, each) for place, each in enumerate(letters)]
        if self._dead:
            self._store_dead(contents)
        for mark in self._marks:  # once all that came before them are rows
            self._table.place_deletion(mark.id)
        return entries

    def ids(self) -> list[str] | None:
        """Return the ids of all messages that have become rows; None where that takes a look."""
        if not self._is_listed or self._unsure:
            return None
        return [row[0] for rows in self._inserted for row in rows] + self.settled

    @property
    def dead(self) -> Iterator[tuple[str, str | None]]:
        """Reason and meta of each dead letter."""
        return ((each.letter.reason, each.letter.meta) for each in self._dead)

    def _set_aside(self, content: Content) -> None:
        if isinstance(content, DeadLetter):
            self._dead.append(_Dead(content, 0, content))
        elif isinstance(content, DeadEnvelope):
            self._given_up.append(content)
        elif isinstance(content, DeletionMark):
            self._marks.append(content)
        elif isinstance(content, DelayedEnvelope):
            self._delay(content)
        elif isinstance(content, DueMessages):
            self._add_due(content)
        elif isinstance(content, ReplayCopies):
            self._add_copies(content)
        elif isinstance(content, HandlerOutcomes):
            self._add_results(content)
        elif isinstance(content, ReleasedMessages):
            self._release(content)

    def _delay(self, content: DelayedEnvelope) -> None:
        """Put the messages aside until they are due; dead letters among them are due now."""
        envelope = content.envelope
        try:
            messages = addressed(envelope)
        except EnvelopeError as error:
            self._dead.append(_Dead(content, 0, _dead(envelope, error.reason, str(error))))
            return
        for place, (topic, message) in enumerate(messages):
            reason = message.dead
            if reason is None and not self._table.delay(topic, message, str(envelope.due_at)):
                reason = ("conflict", _CONFLICT)
            if reason is not None:
                self._dead.append(_Dead(content, place, dead_letter(topic, message, *reason)))

    def _add_due(self, content: DueMessages) -> None:
        """Make rows of the messages that are due."""
        if messages := self._table.take_due(content.at):
            self.due = len(messages)
            part = self._part(content, messages)
            if self._handled:
                self._add_or_put_aside(part)
            else:
                self._add(part)

    def _part(self, content: Content, messages: list[Addressed]) -> Envelope:
        """Return an envelope for messages that became known with a content."""
        envelope = mixed(messages, sum(len(as_bytes(message.body)) for _, message in messages))
        self._any_ends |= any(metas.expires_at(message.meta) for _, message in messages)
        self._parts[id(envelope)] = (content, 0)
        return envelope

    def _add_or_put_aside(self, envelope: Envelope) -> None:
        """Put messages of topics with a handler aside, and add the others as ever."""
        assert self._handled is not None  # noqa: S101  # else this is not called
        function_of = self._handled.of
        if envelope.kind is not Kind.MIXED:
            if function_of(envelope.topic) is None:
                self._add(envelope)
                return
        elif (table := columns(envelope)) is not None and all(
            function_of(topic) is None for topic in {*table.topics}
        ):
            self._add_columns(envelope, table)
            return
        self._put_aside(envelope, addressed(envelope), function_of)

    def _put_aside(
        self,
        envelope: Envelope,
        messages: list[Addressed],
        function_of: Callable[[str], str | None],
    ) -> None:
        """Let messages wait for their handlers, each once, and add those that have none."""
        others: list[Addressed] = []
        for place, (topic, message) in enumerate(messages):
            function = function_of(topic)
            if function is None or message.dead:
                others.append((topic, message))
                continue
            is_known = self._table.is_known_to_handlers(topic, message)
            if is_known is None and function:
                self._table.add_waiting(function, topic, message)
                self.waiting += 1
            elif is_known is None:
                others.append((topic, message))
            elif is_known:
                self._put_aside_already += 1
            else:
                letter = dead_letter(topic, message, "conflict", _CONFLICT)
                self._dead.append(_Dead(envelope, place, letter))
        if len(others) == len(messages):
            self._add(envelope)
        elif others:
            part = self._part(self._parts.get(id(envelope), (envelope, 0))[0], others)
            self._add_messages(part, others)

    def _add_results(self, content: HandlerOutcomes) -> None:
        """Make rows of what handlers returned, and dead letters where they failed for good."""
        results: list[Addressed] = []
        for place, outcome in enumerate(content.outcomes):
            settled = self._table.settle(content.holder, outcome)
            if settled is None:
                continue
            self.settled.append(settled.id)
            results += settled.results
            if settled.dead is not None:
                topic, message = settled.dead
                letter = dead_letter(topic, message, HANDLER_FAILED, outcome.error)
                self._dead.append(_Dead(content, place, letter))
        if results:
            self._add(self._part(content, results))

    def _release(self, content: ReleasedMessages) -> None:
        """Make rows of messages that wait for a handler that is none any more."""
        rules = self._handled.rules if self._handled else HandlerRules()
        if messages := self._table.take_strays(rules):
            self._add(self._part(content, messages))
        self.waiting += 1

    def _add_copies(self, content: ReplayCopies) -> None:
        """Make rows of copies, if their replay still stands where they begin."""
        if self._table.advance_replay(content) and content.envelope is not None:
            copies = addressed(content.envelope)
            self._any_ends |= any(metas.expires_at(message.meta) for _, message in copies)
            self._parts[id(content.envelope)] = (content, 0)
            if self._handled:
                self._add_or_put_aside(content.envelope)
            else:
                self._add(content.envelope)

    def _add(self, envelope: Envelope) -> None:
        kind, topic, at = envelope.kind, envelope.topic, envelope.received_at
        if envelope.expires_at is not None:
            self._any_ends = True
        if kind is Kind.MESSAGE:  # most are: no list of one message is made
            body, meta = as_text(envelope.body), envelope.meta or ""
            self._rows.append((envelope.id, topic, body, at, envelope.content_type or "", meta))
            self._added.add(topic, 1, envelope.size, at, at)
            self._waiting.append(envelope)
        elif kind is Kind.LINES and _can_be_split(envelope.body):
            self._flush()
            self._add_lines(envelope)
        elif kind is not Kind.LINES and (table := columns(envelope)) is not None:
            self._add_columns(envelope, table)
        else:
            self._add_messages(envelope, addressed(envelope))

    def _add_columns(self, envelope: Envelope, table: Columns) -> None:
        topics, ids, times, texts, content_types, metas = table
        self._rows += zip(ids, topics, texts, times, content_types, metas, strict=True)
        if envelope.kind is Kind.MIXED:
            self._added.add_each(topics, texts, times)
        else:
            self._added.add(envelope.topic, envelope.count, envelope.size, times[0], times[-1])
        self._waiting.append(envelope)

    def _add_messages(self, envelope: Envelope, messages: list[Addressed]) -> None:
        whole = len(messages)
        if any(message.dead for _, message in messages):
            for place, (topic, message) in enumerate(messages):
                if message.dead:
                    letter = dead_letter(topic, message, *message.dead)
                    self._dead.append(_Dead(envelope, place, letter))
            messages = [each for each in messages if not each[1].dead]
        if not messages:
            return
        self._rows += [
            (m.id, topic, m.body, m.received_at, m.content_type or "", m.meta or "")
            for topic, m in messages
        ]
        if envelope.kind is Kind.MIXED or len(messages) != whole:
            topics = [topic for topic, _ in messages]
            bodies = [message.body for _, message in messages]
            self._added.add_each(topics, bodies, [message.received_at for _, message in messages])
        else:
            since, until = messages[0][1].received_at, messages[-1][1].received_at
            self._added.add(envelope.topic, whole, envelope.size, since, until)
        self._waiting.append(envelope)

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        waiting, self._waiting = self._waiting, []
        if not rows:
            return
        count = len(rows)
        if self._known:
            self.refused |= {row[0]: self._known[row[0]] for row in rows if row[0] in self._known}
            rows = [row for row in rows if row[0] not in self._known]
        inserted = self._table.insert(rows, self.refused)
        self._inserted.append(rows)
        if inserted != count:
            self._unsure += waiting

    def _add_lines(self, envelope: Envelope) -> None:
        at, self._is_listed = envelope.received_at, False
        try:
            inserted = self._table.insert_lines(envelope)
        except LinesRefusedError:  # then the lines are tried one after another
            self._add_parts(envelope, addressed(envelope))
            return
        if inserted != envelope.count:
            self._unsure.append(envelope)
        self._added.add(envelope.topic, envelope.count, envelope.size, at, at)

    def _add_parts(self, envelope: Envelope, messages: list[Addressed]) -> None:
        """Add lines of which one at least is refused: in parts, and of a small part each line."""
        if len(messages) <= _PART:
            self._add_messages(envelope, messages)
            self._flush()
            return
        for start in range(0, len(messages), _PART):
            lines = [line for _, line in messages[start : start + _PART]]
            part = replace(
                envelope,
                id=lines[0].id,
                count=len(lines),
                size=sum(len(as_bytes(line.body)) for line in lines),
                body=orjson.dumps([line.body for line in lines]),
            )
            self._parts[id(part)] = (envelope, start)
            self._add_lines(part)

    def _is_stored(self, letter: DeadLetter) -> bool:
        """Whether the letter's message is stored.

        The broker also gives up envelopes that were committed and not acknowledged.
        """
        message = Message(letter.id, letter.received_at, as_text(letter.body))
        if self._table.find(letter.id) == (letter.topic, message.body):
            return True
        return self._table.is_in_hand(letter.topic, message)

    def _account_for_each(self) -> None:
        """Make dead letters of messages that are no rows, or came with another message's id.

        A message that was refused can be a row all the same: it came again, and a trigger refuses
        even that, or the trigger refused it after the fact (`RAISE(FAIL)`).
        """
        stored = self._table.since(self._last_seq) if self.refused else {}
        unstorable: list[tuple[str, str]] = []
        for envelope in self._unsure:
            for place, (topic, message) in enumerate(_addressed(envelope)):
                this = (topic, message.body)
                if message.dead or stored.get(message.id) == this:
                    continue
                row = self._table.find(message.id)
                if row == this or _is_known_event(row, topic, message):
                    continue
                reason, error = "conflict", _CONFLICT
                if row is None or message.id in self.refused:
                    reason, error = _UNSTORABLE, self.refused.get(message.id, _LEFT_OUT)
                    unstorable.append((topic, error))
                letter = dead_letter(topic, message, reason, error)
                self._dead.append(_Dead(envelope, place, letter))
                self._unstored += 1
        if unstorable and not self._sure and not self._table.is_any_since(self._last_seq):
            topics = list(dict.fromkeys(topic for topic, _ in unstorable))
            raise NothingTakenError(topics, unstorable[0][1])

    def _count_in_topics(self) -> None:
        """Add the rows to the counters.

        Counters that someone's trigger or constraint refuses hold no message up: the janitor
        corrects them, or says why it can't.
        """
        sums = list(self._sums())
        self.stored = sum(count for _, count, *_ in sums)
        if self._unsure:
            tried = self._added.messages
            self.duplicates = max(0, tried - self.stored - self._unstored)
        self.duplicates += self._put_aside_already
        self._table.add_to_topics(sums)

    def _store_dead(self, contents: Sequence[Content]) -> None:
        """Store the dead letters in the order in which their messages came.

        A message that dies again while its letter is still there gives the letter a new time, so
        that a redrive under way does not remove it.
        """
        places = {id(content): place for place, content in enumerate(contents)}

        def place(dead: _Dead) -> tuple[int, int]:
            content, first = self._parts.get(id(dead.content), (dead.content, 0))
            return places[id(content)], first + dead.place

        self._dead.sort(key=place)
        died = now()
        self._table.insert_dead(
            [
                (d.id, d.topic, d.body, d.reason, d.error, d.received_at, died,
                 d.content_type, d.meta)
                for _, _, d in self._dead
            ]
        )  # fmt: skip

    def _sums(self) -> Iterable[Sum]:
        """Return the sums of the inserted rows, one for each topic."""
        if not self._unsure:
            return self._added.rows()
        return self._table.sums_since(self._last_seq)


def _can_be_split(body: bytes) -> bool:
    """Whether an engine splits the lines as we do: it may take an object too, and odd escapes."""
    return body.startswith(b"[") and not (b"\\u" in body and _ODD_ESCAPE.search(body))


def _is_known_event(row: tuple[str, Any] | None, topic: str, message: Message) -> bool:
    """Whether it is the event that is stored, which its sender sent again: the first body counts.

    The API can't know while its first attempt is not stored yet, and it was started anew.
    """
    return row is not None and row[0] == topic and metas.is_of_event(message.meta)


def _addressed(envelope: Envelope) -> list[Addressed]:
    """Return the messages of an envelope that is stored; none where we can't read it.

    SQLite reads some JSON (single quotes, comments) that we never write and don't read. Lines
    written so are stored, and can't conflict with any message of ours.
    """
    try:
        return addressed(envelope)
    except EnvelopeError:
        return []


def _dead(envelope: Envelope, reason: str, error: str) -> DeadLetter:
    return DeadLetter(
        envelope.topic, envelope.id, envelope.received_at, envelope.body, reason, error, "",
        envelope.content_type, envelope.meta,
    )  # fmt: skip
