"""Redrive: send a dead letter's message again, so that it is stored exactly once.

That holds whatever is killed meanwhile. The message has an id that follows from the letter, so that
it is one row however often it is sent; and the letter is removed only after the broker has the
message on disk. After a kill in between both are there, until the redrive is repeated or the letter
is discarded. So they are where the broker still had the letter's envelope, and delivers it again: a
repeated redrive then makes no second row either.
"""

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from appliance.config import Config
from appliance.errors import RedriveError, RefusedError, TopicError
from appliance.model import meta as metas
from appliance.model.ids import ids_from, is_id, key_prefix
from appliance.model.timestamps import now
from appliance.model.topics import check_topic, map_topic
from appliance.model.wire import Envelope, Message, as_bytes, pack, single
from appliance.store.access_rows import Actor, Deed
from appliance.store.base import DeadLetters
from appliance.store.rows import Letter

#: Redrives at once. Each holds a thread while the broker confirms; other threads must stay free for
#: the health checks.
_AT_ONCE: Final = 3

#: How reasons begin that are not the message's fault: no other message has its id.
_NEVER_STORED: Final = (
    "broker-", "not-json", "schema", "unstorable",
    "no-signature", "bad-signature", "too-old", "too-new", "bad-form",
)  # fmt: skip


class Rechecked(NamedTuple):
    """What a letter becomes: messages, without ids and times as yet, and the prefix of their ids.

    The prefix is None where the letter's own id counts. `is_stored` is whether the sender has sent
    it again since, and it is a row.
    """

    messages: Sequence[Message]
    prefix: str | None = None
    is_stored: bool = False


#: Returns what a letter with this body becomes in a topic, once more checked as it was when it
#: failed. Raises RedriveError where it fails again.
Recheck = Callable[[Letter, bytes, str], Rechecked]


class Redriven(NamedTuple):
    """The message that a letter has become."""

    id: str
    topic: str
    received_at: str


class Redriver:
    """Publishes the messages of dead letters; used by any thread.

    `publish` returns when the broker has an envelope on disk, or raises BrokerError. `record` adds
    an entry to the audit trail. `recheck` is for letters that failed a check; without it they are
    taken as they are.
    """

    def __init__(
        self,
        config: Config,
        letters: DeadLetters,
        publish: Callable[[Envelope], None],
        record: Callable[[Deed], None] = lambda _: None,
        *,
        recheck: Recheck | None = None,
    ) -> None:
        self._record = record
        self._recheck = recheck
        self._max_bytes = max(config.max_message_bytes, config.max_request_bytes)
        self._max_message_bytes = config.max_message_bytes
        self._map_topics = config.map_topics
        self._letters = letters
        self._publish = publish
        self._free = threading.BoundedSemaphore(_AT_ONCE)

    def redrive(
        self,
        letter: Letter,
        topic: str | None = None,
        by: Actor | None = None,
        *,
        force: bool = False,
    ) -> Redriven:
        """Publish the letter's body to `topic` (None: its own), then remove the letter.

        `by` is who asks, for the audit trail. A letter that failed a check is checked again, unless
        `force` says that the administrator takes it as it is.

        Raises RedriveError where the message would only die again, TopicError where `topic` is no
        topic's name, RefusedError where too many redrives are under way, BrokerError or StoreError
        where the broker or the database can't be used now.
        """
        topic, found = self._found(letter, topic, force=force)
        envelope = _sealed(letter, topic, found)
        if not self._free.acquire(blocking=False):
            raise RefusedError(f"{_AT_ONCE} redrives are under way; nothing was done")
        try:
            if not found.is_stored:
                self._publish(envelope)
        finally:
            self._free.release()
        details = f"as message {envelope.id} of {envelope.topic}{', by force' if force else ''}"
        deed = Deed(by, "dead-letter-redrive", str(letter.seq), details) if by else None
        if not self._letters.remove(letter, deed) and deed is not None:
            self._record(deed)  # it was sent again, though another request was faster
        return Redriven(envelope.id, envelope.topic, envelope.received_at)

    def _envelope(self, letter: Letter, topic: str | None) -> Envelope:
        topic, found = self._found(letter, topic, force=False)
        return _sealed(letter, topic, found)

    def _found(self, letter: Letter, topic: str | None, *, force: bool) -> tuple[str, Rechecked]:
        """Return the topic, and what the letter becomes there."""
        if topic is None:
            try:
                topic = (map_topic if self._map_topics else check_topic)(letter.topic)
            except TopicError as error:
                raise RedriveError(
                    "the letter's topic name is invalid; choose a target with ?topic=NAME"
                ) from error
        else:
            check_topic(topic)
        if not letter.size:
            raise RedriveError("the letter has no body, and a message needs at least one byte")
        if letter.size > self._max_bytes:
            raise RedriveError(f"the letter has {letter.size} bytes; {self._max_bytes} can be sent")
        body = letter.body if letter.body is not None else self._letters.body(letter.seq)
        if body is None:
            raise RedriveError("the letter is gone: it was redriven or discarded meanwhile")
        if force or self._recheck is None:
            found = as_it_is(letter, body)
        else:
            found = self._recheck(letter, body, topic)
        found = found._replace(messages=[_lasting(each, force=force) for each in found.messages])
        for message in found.messages:
            if len(message.body) > self._max_message_bytes:
                raise RedriveError(
                    f"the letter has {len(message.body)} bytes; APPLIANCE_MAX_MESSAGE_BYTES allows "
                    f"{self._max_message_bytes} for a message"
                )
        return topic, found if found.prefix else found._replace(prefix=_id(letter, body)[:-8])


def _sealed(letter: Letter, topic: str, found: Rechecked) -> Envelope:
    """Put what a letter becomes into an envelope."""
    first, received_at = f"{found.prefix}00000000", now()
    if len(found.messages) == 1:
        (only,) = found.messages
        if found.prefix == letter.id[:-8]:
            first = letter.id
        envelope = single(
            topic, first, received_at, as_bytes(only.body), only.content_type, only.meta
        )
        return replace(envelope, expires_at=metas.expires_at(only.meta))
    messages = [
        message._replace(id=message_id, received_at=received_at)
        for message_id, message in zip(
            ids_from(first, len(found.messages)), found.messages, strict=True
        )
    ]
    envelope = pack(topic, messages, sum(len(message.body) for message in messages))
    ends = [at for message in messages if (at := metas.expires_at(message.meta))]
    return replace(envelope, expires_at=min(ends, default=None))


def _lasting(message: Message, *, force: bool) -> Message:
    """Return a message as it is stored now; by force, one that is over has no end any more.

    Raises RedriveError where it is over.
    """
    at = metas.expires_at(message.meta)
    if at is None or at > now():
        return message
    if not force:
        raise RedriveError(
            f"the message was over at {at}; discard the letter, or redrive it by force, which "
            "stores the message without an end"
        )
    return message._replace(meta=metas.without(message.meta, metas.EXPIRES_AT))


def as_it_is(letter: Letter, body: bytes) -> Rechecked:
    """Return a letter as one message, unchecked; it is quarantined no more."""
    return Rechecked([Message("", "", body, letter.content_type, without_quarantine(letter.meta))])


def without_quarantine(meta: str | None) -> str | None:
    """Return a letter's meta as its message has it."""
    return metas.without(meta, "quarantine")


def _id(letter: Letter, body: bytes) -> str:
    """Return the id of the letter's message: the same one each time.

    A message that was never stored keeps the id that its sender got. Any other letter's id can be
    that of another message, so the message gets an id that no client's key can have, because no
    topic is empty. It follows from the letter's id and body alone. The letter's number has no part
    in it, because a letter that was not acknowledged before it was redriven comes again under
    another one. Neither has the topic, so that a redrive that was cut off and is repeated with
    another topic makes no second row.
    """
    if letter.reason.startswith(_NEVER_STORED) and is_id(letter.id):
        return letter.id
    return key_prefix("", f"{letter.id} {hashlib.sha256(body).hexdigest()}") + "00000000"
