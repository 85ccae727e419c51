"""Puts the messages of a request together: ids, what is said of each, their envelope. Pure."""

from typing import Final

from appliance.api.bodies.bad_lines import buried, sifted_envelope
from appliance.api.bodies.decoding import Decoded, Part
from appliance.api.bodies.plan import SINGLE
from appliance.api.publish.publish_options import PublishOptions
from appliance.api.publish.receipt import Receipt
from appliance.model import meta as metas
from appliance.model.ids import ids_from, key_prefix
from appliance.model.timestamps import now
from appliance.model.wire import Envelope, Message, batch, pack

#: Bytes of meta that the messages of one request have together; beyond, the headers are left out.
_META_BYTES: Final = 4 * 2**20
#: Messages, and bytes of bodies and meta, of a batch that shares an envelope. The lines of a larger
#: batch cost less in one of their own: the database takes them as they are.
_SHARING_MESSAGES: Final = 64
_SHARING_BYTES: Final = 32 * 1024


def assemble(
    options: PublishOptions, decoded: Decoded, meta: str | None, prefix: str
) -> tuple[Receipt, Message | list[Message] | Envelope | None]:
    """Return the receipt of messages, and what is to be published: None for a batch of none.

    A small batch is a list of messages, and shares an envelope with others, which costs it a third.
    Their ids begin with `prefix`, or follow from their own keys. It can run in any thread.
    """
    topic, bodies, parts = options.topic, decoded.bodies, decoded.parts
    received_at, first_id = now(), prefix + "00000000"
    receipt = Receipt(topic, options.form, first_id, len(bodies), received_at, False, decoded.bad)
    if not bodies:
        return receipt._replace(first_id="", is_stored=True, own_ids=()), None
    if parts is not None and meta is not None and len(meta) * len(parts) > _META_BYTES:
        meta = metas.without_headers(meta)
    kind, text = _said(options, decoded.common, meta)
    said = Message(first_id, received_at, b"", kind, text)
    if options.form in SINGLE:
        if parts:
            kind, text = _said(options, parts[0], meta)
        message = Message(first_id, received_at, bodies[0], kind, text)
        return receipt, buried([message], decoded.bad, said)[0] if decoded.bad else message
    if parts is not None:
        ids = ids_from(first_id, len(bodies))
        if have_keys(decoded):
            ids = [
                i if part.key is None else key_prefix(topic, part.key) + "00000000"
                for i, part in zip(ids, parts, strict=True)
            ]
            receipt = receipt._replace(first_id=ids[0], own_ids=tuple(ids))
        messages = [
            Message(i, received_at, body, *_said(options, part, meta))
            for i, body, part in zip(ids, bodies, parts, strict=True)
        ]
        return receipt, _packed(topic, buried(messages, decoded.bad or (), said), said)
    if decoded.bad:
        return receipt, sifted_envelope(
            topic, first_id, received_at, bodies, decoded.bad, kind, text
        )
    count = len(bodies)
    size = sum(map(len, bodies)) + count * len(text or "") if count <= _SHARING_MESSAGES else None
    if size is not None and size <= _SHARING_BYTES and not options.is_timed:
        ids = ids_from(first_id, len(bodies))
        return receipt, [
            Message(i, received_at, body, kind, text) for i, body in zip(ids, bodies, strict=True)
        ]
    return receipt, batch(topic, prefix, received_at, bodies, kind, text)


def have_keys(decoded: Decoded) -> bool:
    """Whether the messages have keys of their own; one that can't be read has none."""
    return any(part.key is not None for part in decoded.parts or ())


def _said(options: PublishOptions, part: Part, meta: str | None) -> tuple[str | None, str | None]:
    """Return content type and meta of a message: what is said of it, and else of its request."""
    kind = part.content_type
    return (
        options.around.content_type if kind is None else metas.content_type(kind),
        metas.extended(meta, part.members) if part.members else meta,
    )


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
