"""The intake gives the messages of a body their ids, publishes them and returns a receipt."""

import asyncio
import contextlib
from collections.abc import Container
from dataclasses import replace

from appliance.api.bodies.bad_lines import buried, sifted_envelope
from appliance.api.bodies.decoding import Decoded, Part, decode
from appliance.api.bodies.plan import SINGLE
from appliance.api.publish.fitting import fitted
from appliance.api.publish.idempotency import Attempts
from appliance.api.publish.publish_options import PublishOptions
from appliance.api.publish.receipt import Receipt
from appliance.api.publish.unpacker import Unpacker
from appliance.api.schemas.book import SchemaBook
from appliance.broker.base import Publisher
from appliance.config import Config
from appliance.errors import BodyError, KeyReusedError, MisfitError
from appliance.model import meta as metas
from appliance.model.ids import PREFIX_LENGTH, IdSource, ids_from, key_prefix
from appliance.model.timestamps import now
from appliance.model.wire import Envelope, Message, as_text, batch, pack
from appliance.store.base import Commits
from appliance.store.rows import EarlierMessage

Outcome = tuple[Receipt, asyncio.Future[None]]


class Intake:
    """Accepts requests on the event loop."""

    def __init__(
        self, config: Config, publisher: Publisher, commits: Commits, book: SchemaBook
    ) -> None:
        self._config = config
        self._book = book
        self._publisher = publisher
        self._commits = commits
        self._ids = IdSource()
        self._attempts = Attempts()
        self._unpacker = Unpacker(config)

    def send(self, options: PublishOptions, body: bytes, meta: str | None) -> Outcome:
        """Publish a body that is one message, as it is.

        The receipt is true once the future has ended well. Raises BodyError for an empty body,
        BrokerError where it can't be kept now; so may the future.
        """
        received_at, first_id = now(), self._ids.prefix() + "00000000"
        if not body:
            raise BodyError("the body is empty; a message has at least one byte")
        message = Message(first_id, received_at, body, options.around.content_type, meta)
        confirmed = self._publisher.post(options.topic, message)
        return Receipt(options.topic, options.plan.form, first_id, 1, received_at, False), confirmed

    def send_lines(self, options: PublishOptions, body: bytes, meta: str | None) -> Outcome:
        """Publish the lines of a body, all or nothing. Raises what `send` raises, InputError."""
        return self._send(options, decode(options.plan, body, self._config), meta)

    async def decode(self, options: PublishOptions, body: bytes) -> Decoded:
        """Return the messages of a body. Raises InputError where it is never kept."""
        return await self._unpacker.decode(options.plan, body)

    async def accept(
        self, options: PublishOptions, body: bytes | Decoded, meta: str | None
    ) -> Receipt:
        """Keep it, all or nothing; returns once the broker has it on disk.

        With `wait_seconds`, returns once it is stored, the time is over or the task is cancelled:
        whatever is on disk by then can be answered for. With a key, the same again is kept once;
        an event has its own key. Each message has `meta`, and what is said of it alone.

        Raises InputError for a body that is never kept, BrokerError where it can't be kept now, and
        StoreError where a key can't be looked up.
        """
        decoded = body if isinstance(body, Decoded) else await self.decode(options, body)
        if options.form in SINGLE and decoded.parts and (key := decoded.parts[0].key):
            options = replace(options, key=key, first_counts=True)
        has_own_keys = options.form not in SINGLE and _have_keys(decoded)
        if options.key is None or has_own_keys or not decoded.bodies:
            receipt = await self._publish(options, decoded, meta)
        else:
            prefix = key_prefix(options.topic, options.key)
            receipt = await self._attempts.once(
                prefix,
                options,
                decoded.bodies,
                lambda: self._publish_unless_stored(options, decoded, meta, prefix),
            )
        if options.wait_seconds and not receipt.is_stored and receipt.last_id:
            with contextlib.suppress(asyncio.CancelledError):
                is_stored = await self._all_stored(receipt, options.wait_seconds)
                return receipt._replace(is_stored=is_stored)
        return receipt

    async def _all_stored(self, receipt: Receipt, seconds: float) -> bool:
        """Wait until every message is a row.

        The last one says it for all, unless each has a key: some may have come before.
        """
        waiting = [self._commits.committed(i, seconds) for i in receipt.own_ids or ()]
        if not waiting:
            return await self._commits.committed(str(receipt.last_id), seconds)
        return all(await asyncio.gather(*waiting))

    async def _publish(
        self, options: PublishOptions, decoded: Decoded, meta: str | None, prefix: str | None = None
    ) -> Receipt:
        schema = self._book.of(options.topic)
        if schema is not None:
            decoded = await fitted(options, decoded, schema)
        receipt, confirmed = self._send(options, decoded, meta, prefix)
        await confirmed
        return receipt

    def _send(
        self, options: PublishOptions, decoded: Decoded, meta: str | None, prefix: str | None = None
    ) -> Outcome:
        """Publish messages; their ids begin with `prefix`, else with a fresh one."""
        topic, bodies = options.topic, decoded.bodies
        received_at, first_id = now(), (prefix or self._ids.prefix()) + "00000000"
        own_ids = None
        if not bodies:  # a batch of none
            confirmed = asyncio.get_running_loop().create_future()
            confirmed.set_result(None)
            return Receipt(topic, options.form, "", 0, received_at, True, own_ids=()), confirmed
        said = self._message(first_id, received_at, b"", decoded.common, options, meta)
        if options.form in SINGLE:
            messages = [said._replace(body=bodies[0])]
            if decoded.parts:
                part = decoded.parts[0]
                messages = [self._message(first_id, received_at, bodies[0], part, options, meta)]
            (message,) = buried(messages, decoded.bad or (), said)
            confirmed = self._publisher.post(topic, message)
        elif decoded.parts is not None:
            ids = ids_from(first_id, len(bodies))
            if _have_keys(decoded):
                ids = [key_prefix(topic, str(part.key)) + "00000000" for part in decoded.parts]
                first_id, own_ids = ids[0], tuple(ids)
            messages = [
                self._message(i, received_at, body, part, options, meta)
                for i, body, part in zip(ids, bodies, decoded.parts, strict=True)
            ]
            confirmed = self._publisher.post_envelope(
                _packed(topic, buried(messages, decoded.bad or (), said), said)
            )
        else:
            envelope = (
                sifted_envelope(
                    topic, first_id, received_at, bodies, decoded.bad, said.content_type, said.meta
                )
                if decoded.bad
                else batch(
                    topic,
                    first_id[:PREFIX_LENGTH],
                    received_at,
                    bodies,
                    said.content_type,
                    said.meta,
                )
            )
            confirmed = self._publisher.post_envelope(envelope)
        receipt = Receipt(
            topic, options.form, first_id, len(bodies), received_at, False, decoded.bad,
            own_ids=own_ids,
        )  # fmt: skip
        return receipt, confirmed

    @staticmethod
    def _message(
        message_id: str,
        received_at: str,
        body: bytes,
        part: Part,
        options: PublishOptions,
        meta: str | None,
    ) -> Message:
        """Return a message with what is said of it, and else of its request."""
        kind = options.around.content_type
        if part.content_type is not None:
            kind = metas.content_type(part.content_type)
        return Message(
            message_id, received_at, body, kind, metas.extended(meta, part.members or {})
        )

    async def _publish_unless_stored(
        self, options: PublishOptions, decoded: Decoded, meta: str | None, prefix: str
    ) -> Receipt:
        """Accept a request whose key this process does not remember; the store may."""
        stored = await self._commits.with_prefix(prefix, self._config.max_batch_messages + 1)
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
            options.topic, options.form, first_id, count, stored[0].received_at, True,
            decoded.bad, is_repeat=True,
        )  # fmt: skip


def _are(stored: list[EarlierMessage], bodies: list[bytes], dead: Container[int]) -> bool:
    """Whether the rows are what these bodies became; those at the places `dead` may be none.

    Such a dead letter is a row once it was redriven.
    """
    rows = {int(row.id[PREFIX_LENGTH:], 16): row.body for row in stored}
    for place, body in enumerate(bodies):
        row = rows.pop(place, None)
        if row != as_text(body) and not (row is None and place in dead):
            return False
    return not rows


def _packed(topic: str, messages: list[Message], said: Message) -> Envelope:
    """Put messages into an envelope; what most say, the envelope says once."""
    common = (said.content_type, said.meta)
    if all((each.content_type, each.meta) != (None, None) for each in messages):
        messages = [
            each._replace(content_type=None, meta=None)
            if (each.content_type, each.meta) == common and each.dead is None
            else each
            for each in messages
        ]
    else:
        common = (None, None)
    return pack(topic, messages, sum(len(each.body) for each in messages), *common)


def _have_keys(decoded: Decoded) -> bool:
    parts = decoded.parts
    return bool(parts) and parts is not None and parts[0].key is not None
