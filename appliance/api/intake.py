"""Take in what was posted: check it, give it ids, publish it, say what became of it."""

import asyncio
import hashlib
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final

import orjson

from appliance.broker.publisher import Publisher
from appliance.config import Config
from appliance.errors import BodyError, KeyReusedError, TooLargeError
from appliance.messages import (
    Envelope,
    IdSource,
    as_text,
    batch,
    ids_from,
    key_prefix,
    now,
)
from appliance.store.watch import Watch

#: Ids that a batch's answer lists; of a larger one it names the first and the last.
_LISTED_IDS: Final = 1000
#: Idempotency keys remembered here: enough to bridge the time until their messages are stored,
#: from then on the store knows them.
_REMEMBERED_KEYS: Final = 10_000


class Form(Enum):
    """How a body is to be read."""

    WHOLE = auto()  # one message
    LINES = auto()  # each line of a text is a message
    NDJSON = auto()  # the same, and each line is JSON


@dataclass(frozen=True, slots=True)
class Posted:
    """A checked request: who it is for, what it holds, and what its sender asked for."""

    topic: str
    form: Form
    body: bytes
    key: str | None = None
    wait_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a request: the first of its `count` messages, and whether they are rows."""

    topic: str
    form: Form
    first_id: str
    count: int
    received_at: str
    stored: bool

    def encode(self) -> bytes:
        """Return the answer's JSON body."""
        status = "stored" if self.stored else "queued"
        answer: dict[str, object]
        if self.form is Form.WHOLE:
            answer = {
                "id": self.first_id,
                "topic": self.topic,
                "status": status,
                "received_at": self.received_at,
            }
        else:
            ids = ids_from(self.first_id, self.count) if self.count <= _LISTED_IDS else self._ends()
            answer = {
                "topic": self.topic,
                "status": status,
                "received_at": self.received_at,
                "count": self.count,
                "ids": ids,
            }
        return orjson.dumps(answer, option=orjson.OPT_APPEND_NEWLINE)

    def _ends(self) -> list[str]:
        return [self.first_id, self.last_id]

    @property
    def last_id(self) -> str:
        """The id of the last message."""
        prefix, first = self.first_id[:-8], int(self.first_id[-8:], 16)
        return f"{prefix}{first + self.count - 1:08x}"


@dataclass(frozen=True, slots=True)
class _Attempt:
    digest: bytes
    outcome: asyncio.Task[Accepted]


class Intake:
    """Accepts requests on the event loop."""

    def __init__(self, config: Config, publisher: Publisher, watch: Watch) -> None:
        self._config = config
        self._publisher = publisher
        self._watch = watch
        self._ids = IdSource()
        self._attempts: OrderedDict[str, _Attempt] = OrderedDict()

    def most_bytes(self, form: Form) -> int:
        """Return how large a request's body may be."""
        if form is Form.WHOLE:
            return self._config.max_message_bytes
        return self._config.max_request_bytes

    async def accept(self, posted: Posted) -> Accepted:
        """Keep it, all or nothing; returns once the broker has it on disk.

        With `wait_seconds`, returns once it is stored or the time is over. Raises InputError for
        what can't be kept whoever asks, BrokerError for what can't be kept now, StoreError where
        a key can't be looked up.
        """
        if posted.key is None:
            accepted = await self._publish(posted, self._ids.prefix())
        else:
            accepted = await self._once(posted, posted.key)
        if posted.wait_seconds and not accepted.stored:
            stored = await self._watch.committed(accepted.last_id, posted.wait_seconds)
            return replace(accepted, stored=stored)
        return accepted

    async def _publish(self, posted: Posted, prefix: str) -> Accepted:
        received_at, first_id = now(), prefix + "00000000"
        if posted.form is Form.WHOLE:
            if not posted.body:
                raise BodyError("the body is empty; a message has at least one byte")
            count = 1
            await self._publisher.post(posted.topic, first_id, received_at, posted.body)
        else:
            envelope = self._batch(posted, prefix, received_at)
            count = envelope.count
            await self._publisher.post_envelope(envelope)
        return Accepted(posted.topic, posted.form, first_id, count, received_at, stored=False)

    def _batch(self, posted: Posted, prefix: str, received_at: str) -> Envelope:
        lines = split(posted.body)
        self._check(posted.form, posted.body, lines)
        return batch(posted.topic, prefix, received_at, lines)

    def _check(self, form: Form, body: bytes, lines: Sequence[bytes]) -> None:
        if not lines:
            raise BodyError("the body has no line that is not empty")
        if len(lines) > self._config.max_batch_messages:
            raise TooLargeError(
                f"{len(lines)} messages in one request; "
                f"the limit is {self._config.max_batch_messages}"
            )
        longest = self._config.max_message_bytes
        if max(map(len, lines)) > longest:
            number = _line_number(body, next(line for line in lines if len(line) > longest))
            raise TooLargeError(f"line {number} is longer than {longest} bytes")
        if form is Form.NDJSON:
            _check_json(body, lines)

    async def _once(self, posted: Posted, key: str) -> Accepted:
        """Accept a request that has an idempotency key: the same again gets the same answer."""
        prefix = key_prefix(posted.topic, key)
        digest = hashlib.sha256(posted.form.name.encode() + b"\0" + posted.body).digest()
        attempt = self._attempts.get(prefix)
        if attempt is None:
            attempt = _Attempt(digest, asyncio.create_task(self._first(posted, prefix)))
            self._attempts[prefix] = attempt
            attempt.outcome.add_done_callback(lambda task: self._forget_failed(prefix, task))
            if len(self._attempts) > _REMEMBERED_KEYS:
                self._attempts.popitem(last=False)
        elif attempt.digest != digest:
            raise KeyReusedError("this Idempotency-Key came before with another body")
        return await asyncio.shield(attempt.outcome)

    def _forget_failed(self, prefix: str, task: asyncio.Task[Accepted]) -> None:
        if task.cancelled() or task.exception() is not None:
            self._attempts.pop(prefix, None)

    async def _first(self, posted: Posted, prefix: str) -> Accepted:
        """Accept a request whose key this process does not remember; the store may."""
        most = self._config.max_batch_messages + 1
        stored = await self._watch.stored(prefix, most)
        if not stored:
            return await self._publish(posted, prefix)
        bodies = [posted.body] if posted.form is Form.WHOLE else split(posted.body)
        if [as_text(body) for body in bodies] != [row.body for row in stored]:
            raise KeyReusedError("this Idempotency-Key came before with another body")
        first = stored[0]
        return Accepted(
            posted.topic, posted.form, first.id, len(stored), first.received_at, stored=True
        )


def split(body: bytes) -> list[bytes]:
    r"""Return the lines of a body, ended by \n or \r\n, without the empty ones."""
    lines = body.split(b"\n")
    if b"\r" in body:
        lines = [line.removesuffix(b"\r") for line in lines]
    return list(filter(None, lines))


def _check_json(body: bytes, lines: Sequence[bytes]) -> None:
    try:
        deque(map(orjson.loads, lines), maxlen=0)
    except orjson.JSONDecodeError:
        for line in lines:
            try:
                orjson.loads(line)
            except orjson.JSONDecodeError as error:
                number = _line_number(body, line)
                raise BodyError(
                    f"line {number} is not JSON ({error}); nothing of the batch was kept"
                ) from error
        raise


def _line_number(body: bytes, wanted: bytes) -> int:
    """Return the number, from 1, of the first line that is `wanted`, empty lines counted."""
    lines = (line.removesuffix(b"\r") for line in body.split(b"\n"))
    return next(number for number, line in enumerate(lines, 1) if line == wanted)
