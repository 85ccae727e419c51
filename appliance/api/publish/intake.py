"""The intake gives the messages of a body their ids, publishes them and returns a receipt."""

import asyncio
import contextlib
import hashlib
from collections.abc import Container
from dataclasses import replace
from typing import Final

from appliance.api.bodies.bad_lines import BadLine, buried
from appliance.api.bodies.decoding import Decoded, decode
from appliance.api.bodies.plan import SINGLE, Form
from appliance.api.publish.assembly import assemble, have_keys
from appliance.api.publish.fitting import fitted
from appliance.api.publish.idempotency import Attempts, KeyedAttempt
from appliance.api.publish.publish_options import PublishOptions
from appliance.api.publish.receipt import Receipt
from appliance.api.publish.unpacker import Unpacker
from appliance.api.quarantine.door import QuarantineDoor
from appliance.broker.base import Publisher, Waiter
from appliance.config import Config
from appliance.errors import BodyError, KeyReusedError, MisfitError, StoreError
from appliance.model import meta as metas
from appliance.model.ids import PREFIX_LENGTH, IdSource, key_prefix
from appliance.model.timestamps import now
from appliance.model.wire import Envelope, Message, as_bytes, as_text, pack
from appliance.schemas.book import SchemaBook
from appliance.store.base import Commits
from appliance.store.handler_rows import HandlerReply
from appliance.store.rows import EarlierMessage

#: Messages with something of their own that are put together on the event loop; each takes 10 us.
_BUILT_AT_ONCE: Final = 256

#: Messages with a handler of one request that are waited for.
_HANDLED_AWAITED: Final = 1000

Outcome = tuple[Receipt, asyncio.Future[None]]


class Intake:
    """Accepts requests on the event loop."""

    def __init__(
        self,
        config: Config,
        publisher: Publisher,
        commits: Commits,
        book: SchemaBook,
        door: QuarantineDoor,
    ) -> None:
        self._config = config
        self._book = book
        self._door = door
        self._publisher = publisher
        self._commits = commits
        self._ids = IdSource()
        self._attempts = Attempts()
        self._unpacker = Unpacker(config)

    def send(
        self,
        options: PublishOptions,
        body: bytes,
        meta: str | None,
        waiter: Waiter,
        prefix: str | None = None,
    ) -> Receipt:
        """Publish a body that is one message, as it is; `prefix` is that of its key.

        The receipt is true once the waiter is told so. Raises BodyError for an empty body,
        BrokerError where it can't be kept now; the waiter is told nothing then.
        """
        received_at, first_id = now(), (prefix or self._ids.prefix()) + "00000000"
        if not body:
            raise BodyError("the body is empty; a message has at least one byte")
        message = Message(first_id, received_at, body, options.around.content_type, meta)
        self._publisher.send(options.topic, message, waiter)
        return Receipt(options.topic, options.plan.form, first_id, 1, received_at, False)

    def first_attempt(
        self, options: PublishOptions, body: bytes
    ) -> tuple[KeyedAttempt, asyncio.Future[bool]] | None:
        """Begin the first attempt with a key, whose body is one message as it is.

        The future says whether messages with its key are stored, or ends with StoreError. Whoever
        makes the attempt says how it ended. None where this process remembers one, or a handler may
        have the message: `accept` it then.
        """
        if self.is_handled(options.topic):
            return None
        prefix = key_prefix(options.topic, str(options.key))
        attempt = self._attempts.begin(prefix, options, body)
        return None if attempt is None else (attempt, self._commits.is_used(prefix))

    def send_lines(self, options: PublishOptions, body: bytes, meta: str | None) -> Outcome:
        """Publish the lines of a body, all or nothing.

        The receipt is true once the future has ended well. Raises InputError for a body that is
        never kept, BrokerError where it can't be kept now; so may the future.
        """
        decoded = decode(options.plan, body, self._config)
        return self._post(options, *assemble(options, decoded, meta, self._ids.prefix()))

    async def decode(self, options: PublishOptions, body: bytes) -> Decoded:
        """Return the messages of a body. Raises InputError where it is never kept."""
        return await self._unpacker.decode(options.plan, body)

    async def accept(
        self, options: PublishOptions, body: bytes | Decoded, meta: str | None
    ) -> Receipt:
        """Keep it, all or nothing; returns once the broker has it on disk.

        With a key, the same again is kept once; an event has its own key. Each message has `meta`,
        and what is said of it alone.

        Raises InputError for a body that is never kept, BrokerError where it can't be kept now, and
        StoreError where a key can't be looked up.
        """
        decoded = body if isinstance(body, Decoded) else await self.decode(options, body)
        if options.form in SINGLE and decoded.parts and (key := decoded.parts[0].key):
            options = replace(options, key=key, first_counts=True)
        has_own_keys = options.form not in SINGLE and have_keys(decoded)
        if options.key is None or has_own_keys or not decoded.bodies:
            return await self._publish(options, decoded, meta)
        prefix = key_prefix(options.topic, options.key)
        return await self._attempts.once(
            prefix,
            options,
            decoded.bodies,
            lambda: self.publish_unless_stored(options, decoded, meta, prefix),
        )

    def row_of(self, receipt: Receipt, seconds: float) -> asyncio.Future[bool]:
        """Return a future that says within `seconds` whether a message that was sent is a row."""
        return self._commits.when_committed(receipt.first_id, seconds)

    async def stored(self, receipt: Receipt, seconds: float | None) -> Receipt:
        """Return the receipt once its messages are rows, or after `seconds`; None: at once.

        Also where the task is cancelled: they are on disk, so they can be answered for. Whoever
        waits here holds no body, which can be a thousand times larger than what came.
        """
        if seconds and not receipt.is_stored and receipt.last_id:
            with contextlib.suppress(asyncio.CancelledError):
                return receipt._replace(is_stored=await self._all_stored(receipt, seconds))
        return receipt

    def is_handled(self, topic: str) -> bool:
        """Whether messages of a topic go to a handler before they become rows."""
        handlers = self._config.handlers
        return bool(handlers) and handlers.of(topic) is not None

    async def reply(self, receipt: Receipt) -> HandlerReply | None:
        """Return what the handler said of a request's one message, once it is handled.

        None where there are several, or that can't be known now.
        """
        if receipt.form in SINGLE and not receipt.bad:
            with contextlib.suppress(StoreError):
                return await self._commits.reply(receipt.first_id)
        return None

    async def _all_stored(self, receipt: Receipt, seconds: float) -> bool:
        """Wait until every message is a row, or handled.

        The last one says it for all, unless each has a key: some may have come before. Handlers
        keep no order.
        """
        ids = receipt.own_ids_of_rows
        if self.is_handled(receipt.topic) and not ids:
            if receipt.message_count > _HANDLED_AWAITED:
                return False
            ids = receipt.ids_of_rows
        waiting = [self._commits.committed(i, seconds) for i in ids]
        if not waiting:
            return await self._commits.committed(str(receipt.last_id), seconds)
        return all(await asyncio.gather(*waiting))

    async def _publish(
        self, options: PublishOptions, decoded: Decoded, meta: str | None, prefix: str | None = None
    ) -> Receipt:
        schema = self._book.of(options.topic)
        if schema is not None:
            decoded = await fitted(options, decoded, schema)
        kept = [each for each in decoded.bad or () if each.quarantine]
        if kept:
            size = sum(len(decoded.bodies[each.place]) for each in kept)
            self._door.admit(str(kept[0].quarantine), len(kept), size)
        prefix = prefix or self._ids.prefix()
        if options.expires_at is not None:
            meta = metas.extended(meta, {metas.EXPIRES_AT: options.expires_at})
        if decoded.parts is not None and len(decoded.parts) > _BUILT_AT_ONCE:
            built = await self._unpacker.run(assemble, options, decoded, meta, prefix)
        else:
            built = assemble(options, decoded, meta, prefix)
        receipt, confirmed = self._post(options, *built)
        await confirmed
        return receipt

    async def quarantine(
        self, topic: str, body: bytes, bad: BadLine, content_type: str | None, meta: str | None
    ) -> Receipt:
        """Keep the body of a request that failed a check as a dead letter.

        It has no key: whoever made it up could take the place of a message that is signed. Raises
        QuarantineFullError where there is no room for it, BrokerError as `accept` does.
        """
        self._door.admit(str(bad.quarantine), 1, len(body))
        received_at, first_id = now(), self._ids.prefix() + "00000000"
        said = Message(first_id, received_at, body, content_type, meta)
        (letter,) = buried([said], [bad], said)
        await self._publisher.post(topic, letter)
        return Receipt(topic, Form.WHOLE, first_id, 1, received_at, False, [bad])

    def _post(
        self,
        options: PublishOptions,
        receipt: Receipt,
        built: Message | list[Message] | Envelope | None,
    ) -> Outcome:
        if isinstance(built, list):
            return receipt, self._publisher.post_batch(options.topic, built)
        if options.is_timed and built is not None:
            receipt = receipt._replace(due_at=options.due_at, expires_at=options.expires_at)
            if options.due_at is not None or isinstance(built, Envelope):
                built = _timed(options, built)
        if isinstance(built, Envelope):
            return receipt, self._publisher.post_envelope(built)
        if built is not None:
            return receipt, self._publisher.post(options.topic, built, options.expires_at)
        nothing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        nothing.set_result(None)
        return receipt, nothing

    async def publish_unless_stored(
        self, options: PublishOptions, decoded: Decoded, meta: str | None, prefix: str
    ) -> Receipt:
        """Accept a request whose key this process does not remember; the store may.

        Raises what `accept` raises.
        """
        stored = await self._earlier(options.topic, prefix)
        if not stored:
            return await self._publish(options, decoded, meta, prefix)
        if schema := self._book.of(options.topic):
            with contextlib.suppress(MisfitError):  # today's schema refuses what is kept already
                decoded = await fitted(options, decoded, schema)
        is_same = _are(stored, decoded.bodies, {each.place for each in decoded.bad or ()})
        if not is_same and not options.first_counts:
            raise KeyReusedError("this Idempotency-Key came before with another body")
        first_id, count = prefix + "00000000", len(decoded.bodies) if is_same else len(stored)
        return Receipt(
            options.topic, options.form, first_id, count, stored[0].received_at,
            not self.is_handled(options.topic), decoded.bad, is_repeat=True,
        )  # fmt: skip

    async def _earlier(self, topic: str, prefix: str) -> list[EarlierMessage]:
        """Return the messages whose ids begin with a prefix, stored or with a handler."""
        most = self._config.max_batch_messages + 1
        if self.is_handled(topic):  # its results can have its id, and not its body
            stored = await self._commits.with_prefix(prefix, most)
            earlier = {each.id: each for each in stored}
            earlier |= {each.id: each for each in await self._commits.in_hand(prefix, most)}
            return list(earlier.values())
        if await self._commits.is_used(prefix):
            return await self._commits.with_prefix(prefix, most)
        return []


def _timed(options: PublishOptions, built: Message | Envelope) -> Envelope:
    """Return an envelope of its own, which messages of other times have no part in."""
    if isinstance(built, Message):
        built = pack(options.topic, [built], len(as_bytes(built.body)))
    return replace(built, due_at=options.due_at, expires_at=options.expires_at)


def _are(stored: list[EarlierMessage], bodies: list[bytes], dead: Container[int]) -> bool:
    """Whether the rows are what these bodies became; those at the places `dead` may be none.

    Such a dead letter is a row once it was redriven.
    """
    rows = {int(row.id[PREFIX_LENGTH:], 16): row for row in stored}
    for place, body in enumerate(bodies):
        row = rows.pop(place, None)
        if row is None:
            is_same = place in dead
        elif row.body is None:
            is_same = row.digest == hashlib.sha256(body).digest()
        else:
            is_same = row.body == as_text(body)
        if not is_same:
            return False
    return not rows
