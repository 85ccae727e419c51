"""Send a dead letter's message again.

Never none, never two, whatever is killed when: the message has an id that follows from the letter,
so however often it is sent it is one row; and the letter is removed only after the broker has the
message on disk. Killed in between, both are there until the redrive is asked for again, or the
letter is discarded.
"""

import threading
from collections.abc import Callable
from typing import Final, NamedTuple

from appliance.config import Config
from appliance.errors import RedriveError, RefusedError, TopicError
from appliance.model.ids import is_id, key_prefix
from appliance.model.timestamps import now
from appliance.model.topics import check_topic
from appliance.model.wire import Envelope, single
from appliance.store.sqlite.dead_letters import DeadLetters, Letter

#: Redrives at once. Each holds a thread while the broker confirms; the others must stay free to
#: answer whether the broker is well.
_AT_ONCE: Final = 3

#: How the reasons begin that lie not in the message: no other has its id.
_NEVER_STORED: Final = ("broker-", "unstorable")


class Redriven(NamedTuple):
    """The message that a letter has become."""

    id: str
    topic: str
    received_at: str


class Redriver:
    """`publish` returns when the broker has an envelope on disk, or raises BrokerError."""

    def __init__(
        self, config: Config, letters: DeadLetters, publish: Callable[[Envelope], None]
    ) -> None:
        self._max_message_bytes = config.max_message_bytes
        self._letters = letters
        self._publish = publish
        self._free = threading.BoundedSemaphore(_AT_ONCE)

    def redrive(self, letter: Letter, topic: str | None = None) -> Redriven:
        """Publish the letter's body to `topic` (None: its own), then remove the letter.

        Raises RedriveError where it would only die again, TopicError where `topic` is none,
        BrokerError and StoreError where it can't be done now.
        """
        envelope = self._envelope(letter, topic)
        if not self._free.acquire(blocking=False):
            raise RefusedError(f"{_AT_ONCE} redrives are under way; nothing was done")
        try:
            self._publish(envelope)
        finally:
            self._free.release()
        self._letters.remove(letter)
        return Redriven(envelope.id, envelope.topic, envelope.received_at)

    def _envelope(self, letter: Letter, topic: str | None) -> Envelope:
        if topic is None:
            try:
                topic = check_topic(letter.topic)
            except TopicError as error:
                raise RedriveError(
                    "its topic is still no topic's name; say where it is to go: ?topic=NAME"
                ) from error
        else:
            check_topic(topic)
        if not letter.size:
            raise RedriveError("it has no body, and a message has at least one byte")
        if letter.size > self._max_message_bytes:
            raise RedriveError(
                f"it has {letter.size} bytes; APPLIANCE_MAX_MESSAGE_BYTES allows a message "
                f"{self._max_message_bytes}"
            )
        body = letter.body if letter.body is not None else self._letters.body(letter.seq)
        if body is None:
            raise RedriveError("it is gone: redriven or discarded meanwhile")
        return single(topic, _id(letter), now(), body)


def _id(letter: Letter) -> str:
    """Return the id of the letter's message; the same however often it is asked for.

    What was never stored keeps the id that its sender was told. Any other letter's id may be that
    of another message: it gets one that no key of a client's has, since no topic is empty. The
    topic has no part in it, so that a redrive that was cut off and is asked for again with another
    topic makes no second row.
    """
    if letter.reason.startswith(_NEVER_STORED) and is_id(letter.id):
        return letter.id
    return key_prefix("", f"{letter.seq} {letter.received_at} {letter.id}") + "00000000"
