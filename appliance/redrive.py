"""Redrive: send a dead letter's message again, so that it is stored exactly once.

That holds whatever is killed meanwhile. The message has an id that follows from the letter, so that
it is one row however often it is sent; and the letter is removed only after the broker has the
message on disk. After a kill in between both are there, until the redrive is repeated or the letter
is discarded. So they are where the broker still had the letter's envelope, and delivers it again: a
repeated redrive then makes no second row either.
"""

import hashlib
import threading
from collections.abc import Callable
from typing import Final, NamedTuple

from appliance.config import Config
from appliance.errors import RedriveError, RefusedError, TopicError
from appliance.model.ids import is_id, key_prefix
from appliance.model.timestamps import now
from appliance.model.topics import check_topic, map_topic
from appliance.model.wire import Envelope, single
from appliance.store.access_rows import Actor, Deed
from appliance.store.base import DeadLetters
from appliance.store.rows import Letter

#: Redrives at once. Each holds a thread while the broker confirms; other threads must stay free for
#: the health checks.
_AT_ONCE: Final = 3

#: How reasons begin that are not the message's fault: no other message has its id.
_NEVER_STORED: Final = ("broker-", "not-json", "unstorable")


class Redriven(NamedTuple):
    """The message that a letter has become."""

    id: str
    topic: str
    received_at: str


class Redriver:
    """Publishes the messages of dead letters; used by any thread.

    `publish` returns when the broker has an envelope on disk, or raises BrokerError. `record` adds
    an entry to the audit trail.
    """

    def __init__(
        self,
        config: Config,
        letters: DeadLetters,
        publish: Callable[[Envelope], None],
        record: Callable[[Deed], None] = lambda _: None,
    ) -> None:
        self._record = record
        self._max_message_bytes = config.max_message_bytes
        self._map_topics = config.map_topics
        self._letters = letters
        self._publish = publish
        self._free = threading.BoundedSemaphore(_AT_ONCE)

    def redrive(
        self, letter: Letter, topic: str | None = None, by: Actor | None = None
    ) -> Redriven:
        """Publish the letter's body to `topic` (None: its own), then remove the letter.

        `by` is who asks, for the audit trail.

        Raises RedriveError where the message would only die again, TopicError where `topic` is no
        topic's name, RefusedError where too many redrives are under way, BrokerError or StoreError
        where the broker or the database can't be used now.
        """
        envelope = self._envelope(letter, topic)
        if not self._free.acquire(blocking=False):
            raise RefusedError(f"{_AT_ONCE} redrives are under way; nothing was done")
        try:
            self._publish(envelope)
        finally:
            self._free.release()
        details = f"as message {envelope.id} of {envelope.topic}"
        deed = Deed(by, "dead-letter-redrive", str(letter.seq), details) if by else None
        if not self._letters.remove(letter, deed) and deed is not None:
            self._record(deed)  # it was sent again, though another request was faster
        return Redriven(envelope.id, envelope.topic, envelope.received_at)

    def _envelope(self, letter: Letter, topic: str | None) -> Envelope:
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
        if letter.size > self._max_message_bytes:
            raise RedriveError(
                f"the letter has {letter.size} bytes; APPLIANCE_MAX_MESSAGE_BYTES allows "
                f"{self._max_message_bytes} for a message"
            )
        body = letter.body if letter.body is not None else self._letters.body(letter.seq)
        if body is None:
            raise RedriveError("the letter is gone: it was redriven or discarded meanwhile")
        return single(topic, _id(letter, body), now(), body, letter.content_type, letter.meta)


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
