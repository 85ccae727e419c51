"""The intake gives the messages of a body their ids, publishes them and returns a receipt."""

import asyncio
import contextlib
from collections.abc import Container

from appliance.api.publish import bad_lines, lines
from appliance.api.publish.bad_lines import BadLine
from appliance.api.publish.idempotency import Attempts
from appliance.api.publish.publish_options import Form, PublishOptions
from appliance.api.publish.receipt import Receipt
from appliance.broker.base import Publisher
from appliance.config import Config
from appliance.errors import BodyError, KeyReusedError
from appliance.model.ids import PREFIX_LENGTH, IdSource, key_prefix
from appliance.model.timestamps import now
from appliance.model.wire import Message, as_text, batch
from appliance.store.base import Commits
from appliance.store.rows import EarlierMessage


class Intake:
    """Accepts requests on the event loop."""

    def __init__(self, config: Config, publisher: Publisher, commits: Commits) -> None:
        self._config = config
        self._publisher = publisher
        self._commits = commits
        self._ids = IdSource()
        self._attempts = Attempts()

    def send(
        self, options: PublishOptions, body: bytes, meta: str | None, prefix: str | None = None
    ) -> tuple[Receipt, asyncio.Future[None]]:
        """Publish it, all or nothing: the receipt is true once the future has ended well.

        Each message has `meta`. The ids begin with `prefix`, else with a fresh one. Raises
        InputError for a body that is never kept, BrokerError where it can't be kept now; so may the
        future.
        """
        received_at, first_id = now(), (prefix or self._ids.prefix()) + "00000000"
        if options.form is Form.WHOLE:
            if not body:
                raise BodyError("the body is empty; a message has at least one byte")
            count, bad = 1, None
            message = Message(first_id, received_at, body, options.around.content_type, meta)
            confirmed = self._publisher.post(options.topic, message)
        else:
            messages = lines.split(body)
            bad = self._check(options, body, messages)
            content_type = options.around.content_type
            if bad:
                envelope = bad_lines.sifted_envelope(
                    options.topic, first_id, received_at, messages, bad, content_type, meta
                )
            else:
                prefix = first_id[:PREFIX_LENGTH]
                envelope = batch(options.topic, prefix, received_at, messages, content_type, meta)
            count = envelope.count
            confirmed = self._publisher.post_envelope(envelope)
        receipt = Receipt(options.topic, options.form, first_id, count, received_at, False, bad)
        return receipt, confirmed

    def _check(
        self, options: PublishOptions, body: bytes, messages: list[bytes]
    ) -> list[BadLine] | None:
        """Return the lines that become dead letters; None where a bad one refuses the batch."""
        if options.sifting is None:
            lines.check(options.form, body, messages, self._config)
            return None
        first_line = options.sifting.first_line
        return bad_lines.find(options.form, body, messages, self._config, first_line)

    async def accept(self, options: PublishOptions, body: bytes, meta: str | None) -> Receipt:
        """Keep it, all or nothing; returns once the broker has it on disk.

        With `wait_seconds`, returns once it is stored, the time is over or the task is cancelled:
        whatever is on disk by then can be answered for. With a key, the same again is kept once.
        Raises what `send` raises, and StoreError where a key can't be looked up.
        """
        if options.key is None:
            receipt = await self._publish(options, body, meta)
        else:
            prefix = key_prefix(options.topic, options.key)
            receipt = await self._attempts.once(
                prefix,
                options,
                body,
                lambda: self._publish_unless_stored(options, body, meta, prefix),
            )
        last_id = receipt.last_id
        if options.wait_seconds and not receipt.is_stored and last_id:
            with contextlib.suppress(asyncio.CancelledError):
                is_stored = await self._commits.committed(last_id, options.wait_seconds)
                return receipt._replace(is_stored=is_stored)
        return receipt

    async def _publish(
        self, options: PublishOptions, body: bytes, meta: str | None, prefix: str | None = None
    ) -> Receipt:
        receipt, confirmed = self.send(options, body, meta, prefix)
        await confirmed
        return receipt

    async def _publish_unless_stored(
        self, options: PublishOptions, body: bytes, meta: str | None, prefix: str
    ) -> Receipt:
        """Accept a request whose key this process does not remember; the store may."""
        stored = await self._commits.with_prefix(prefix, self._config.max_batch_messages + 1)
        if not stored:
            return await self._publish(options, body, meta, prefix)
        bodies = [body] if options.form is Form.WHOLE else lines.split(body)
        bad = None
        if options.sifting is not None:
            bad = self._check(options, body, bodies)
        if not _are(stored, bodies, {each.place for each in bad or ()}):
            raise KeyReusedError("this Idempotency-Key came before with another body")
        first_id, received_at = prefix + "00000000", stored[0].received_at
        return Receipt(options.topic, options.form, first_id, len(bodies), received_at, True, bad)


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
