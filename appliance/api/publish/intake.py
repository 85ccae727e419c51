"""Take in what was posted: check it, give it ids, publish it, say what became of it."""

import asyncio
import contextlib
import hashlib
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, NamedTuple

import orjson

from appliance.broker.publish.publisher import Publisher
from appliance.config import Config
from appliance.errors import BodyError, KeyReusedError, TooLargeError
from appliance.model.messages import (
    PREFIX_LENGTH,
    IdSource,
    as_text,
    batch,
    ids_from,
    key_prefix,
    now,
)
from appliance.store.sqlite.commits import Watch

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
class Order:
    """What a request's head asks for: how to read its body, and what its sender wants to know."""

    topic: str
    form: Form
    key: str | None
    wait_seconds: float | None
    most_bytes: int

    @property
    def plain(self) -> bool:
        """Whether `Intake.send` is all there is to do."""
        return self.key is None and self.wait_seconds is None


class Accepted(NamedTuple):
    """What became of a request: the first of its `number` messages, and whether they are rows."""

    topic: str
    form: Form
    first_id: str
    number: int
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
            listed = self.number <= _LISTED_IDS
            ids = ids_from(self.first_id, self.number) if listed else self._ends()
            answer = {
                "topic": self.topic,
                "status": status,
                "received_at": self.received_at,
                "count": self.number,
                "ids": ids,
            }
        return orjson.dumps(answer, option=orjson.OPT_APPEND_NEWLINE)

    def _ends(self) -> list[str]:
        return [self.first_id, self.last_id]

    @property
    def last_id(self) -> str:
        """The id of the last message."""
        prefix, first = self.first_id[:-8], int(self.first_id[-8:], 16)
        return f"{prefix}{first + self.number - 1:08x}"


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

    def send(
        self, order: Order, body: bytes, prefix: str | None = None
    ) -> tuple[Accepted, asyncio.Future[None]]:
        """Publish it, all or nothing: what is returned is true once the future has ended well.

        The ids begin with `prefix`, else with a fresh one. Raises InputError for what can't be
        kept whoever asks; BrokerError for what can't be kept now, and so may the future.
        """
        received_at, first_id = now(), (prefix or self._ids.prefix()) + "00000000"
        if order.form is Form.WHOLE:
            if not body:
                raise BodyError("the body is empty; a message has at least one byte")
            count = 1
            confirmed = self._publisher.post(order.topic, first_id, received_at, body)
        else:
            lines = split(body)
            self._check(order.form, body, lines)
            envelope = batch(order.topic, first_id[:PREFIX_LENGTH], received_at, lines)
            count = envelope.count
            confirmed = self._publisher.post_envelope(envelope)
        return Accepted(order.topic, order.form, first_id, count, received_at, False), confirmed

    async def accept(self, order: Order, body: bytes) -> Accepted:
        """Keep it, all or nothing; returns once the broker has it on disk.

        With `wait_seconds`, returns once it is stored, the time is over or the task is cancelled:
        what is on disk by then can be answered for. With a key, the same again is kept once.
        Raises what `send` raises, and StoreError where a key can't be looked up.
        """
        if order.key is None:
            accepted = await self._publish(order, body)
        else:
            accepted = await self._once(order, body, order.key)
        if order.wait_seconds and not accepted.stored:
            with contextlib.suppress(asyncio.CancelledError):
                stored = await self._watch.committed(accepted.last_id, order.wait_seconds)
                return accepted._replace(stored=stored)
        return accepted

    async def _publish(self, order: Order, body: bytes, prefix: str | None = None) -> Accepted:
        accepted, confirmed = self.send(order, body, prefix)
        await confirmed
        return accepted

    def _check(self, form: Form, body: bytes, lines: Sequence[bytes]) -> None:
        if not lines:
            raise BodyError("the body has no line that is not empty")
        if len(lines) > self._config.max_batch_messages:
            raise TooLargeError(
                f"{len(lines)} messages in one request; "
                f"the limit is {self._config.max_batch_messages}"
            )
        longest = self._config.max_message_bytes
        if len(body) > longest and max(map(len, lines)) > longest:
            number = _line_number(body, next(line for line in lines if len(line) > longest))
            raise TooLargeError(f"line {number} is longer than {longest} bytes")
        if form is Form.NDJSON:
            _check_json(body, lines)

    async def _once(self, order: Order, body: bytes, key: str) -> Accepted:
        """Accept a request that has an idempotency key: the same again gets the same answer."""
        prefix = key_prefix(order.topic, key)
        digest = hashlib.sha256(order.form.name.encode() + b"\0" + body).digest()
        attempt = self._attempts.get(prefix)
        if attempt is None:
            attempt = _Attempt(digest, asyncio.create_task(self._first(order, body, prefix)))
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

    async def _first(self, order: Order, body: bytes, prefix: str) -> Accepted:
        """Accept a request whose key this process does not remember; the store may."""
        most = self._config.max_batch_messages + 1
        stored = await self._watch.stored(prefix, most)
        if not stored:
            return await self._publish(order, body, prefix)
        bodies = [body] if order.form is Form.WHOLE else split(body)
        if [as_text(each) for each in bodies] != [row.body for row in stored]:
            raise KeyReusedError("this Idempotency-Key came before with another body")
        first = stored[0]
        return Accepted(
            order.topic, order.form, first.id, len(stored), first.received_at, stored=True
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
