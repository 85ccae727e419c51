"""Store contents one by one when the database refuses them together.

The database would refuse such a transaction for ever, and everything in it would wait. So each of
its contents is stored on its own; one that is refused even so becomes dead letters, with the
database's own words as the error.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import structlog

from appliance.errors import StoreError, UnstorableError
from appliance.model.contents import (
    Content,
    DeadEnvelope,
    DeadLetter,
    DelayedEnvelope,
    DeletionMark,
    DueMessages,
    LedgerReport,
    ReplayCopies,
)
from appliance.model.handler_outcomes import HandlerOutcomes, ReleasedMessages
from appliance.model.wire import Envelope
from appliance.store.base import Writer

#: `dead_letters.reason` of messages that the database refuses.
_REASON: Final = "unstorable"

_log: Any = structlog.get_logger(__name__)


def store_each(open_writer: Callable[[], Writer], contents: Sequence[Content]) -> int:
    """Store each of the contents, in order, in a transaction and on a writer of its own.

    Each is stored in the first form that the database takes. Returns the number of missing
    envelopes, as `Writer.store` does. Raises StoreError where the database can't be used, or
    refuses even a dead letter. The contents stored by then stay; to store them again is harmless.
    """
    return sum(_store(open_writer, content) for content in contents)


def _store(open_writer: Callable[[], Writer], content: Content) -> int:
    try:
        return _attempt(open_writer, content)
    except UnstorableError as refusal:
        _log.error("message refused by the database", error=str(refusal))
        for form in _lesser_forms(content, str(refusal)):
            with contextlib.suppress(UnstorableError):
                return _attempt(open_writer, form)
        if isinstance(content, LedgerReport | DeletionMark):
            return 0  # it holds no message
        raise StoreError(f"not even a dead letter can be stored: {refusal}") from refusal


def _attempt(open_writer: Callable[[], Writer], content: Content) -> int:
    writer = open_writer()
    try:
        return writer.store([content])
    finally:
        writer.close()


def _lesser_forms(content: Content, error: str) -> Iterator[Content]:
    """Yield other forms of a content that was refused, the one that loses least first."""
    if isinstance(
        content,
        LedgerReport
        | DeletionMark
        | DueMessages
        | HandlerOutcomes
        | ReleasedMessages
        | ReplayCopies,
    ):
        return
    if content.ledger:
        yield _without_ledger(content)
    if isinstance(content, DeadLetter):
        return
    envelope = content if isinstance(content, Envelope) else content.envelope
    whole = DeadLetter(
        envelope.topic, envelope.id, envelope.received_at, envelope.body, _REASON, error,
        envelope.ledger, envelope.content_type, envelope.meta,
    )  # fmt: skip
    for form in (DeadEnvelope(envelope, _REASON, error), whole):
        yield form
        yield _without_ledger(form)


def _without_ledger(
    content: Envelope | DelayedEnvelope | DeadLetter | DeadEnvelope,
) -> Content:
    if isinstance(content, DeadEnvelope | DelayedEnvelope):
        return replace(content, envelope=replace(content.envelope, ledger=""))
    return replace(content, ledger="")
