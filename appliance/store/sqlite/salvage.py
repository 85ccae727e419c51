"""Store what is at fault as far as it can be, so that it holds nothing else up.

A transaction that the database refuses for what is in it would be refused for ever, and all that
came with it would wait. So each is stored by itself; and what is refused even so becomes dead
letters, with the database's own words.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import structlog

from appliance.errors import StoreError, UnstorableError
from appliance.model.contents import Content, DeadEnvelope, DeadLetter, LedgerReport
from appliance.model.wire import Envelope
from appliance.store.sqlite.writer import Writer

#: `dead_letters.reason` of what the database refuses.
_REASON: Final = "unstorable"

_log: Any = structlog.get_logger(__name__)


def store_each(path: Path, contents: Sequence[Content]) -> int:
    """Store each in a transaction of its own, in order, in the first form that the database takes.

    Returns what `Writer.store` does. Raises StoreError where the database can't be used, and where
    it takes not even a dead letter. What is stored by then stays; to store it again is harmless.
    """
    return sum(_store(path, content) for content in contents)


def _store(path: Path, content: Content) -> int:
    try:
        return _attempt(path, content)
    except UnstorableError as refusal:
        _log.error("the database refuses what came", error=str(refusal))
        for form in _lesser(content, str(refusal)):
            with contextlib.suppress(UnstorableError):
                return _attempt(path, form)
        if isinstance(content, LedgerReport):
            return 0  # it holds no message
        raise StoreError(f"not even a dead letter can be stored: {refusal}") from refusal


def _attempt(path: Path, content: Content) -> int:
    writer = Writer(path)
    try:
        return writer.store([content])
    finally:
        writer.close()


def _lesser(content: Content, error: str) -> Iterator[Content]:
    """Yield what may be stored instead: first what loses least."""
    if isinstance(content, LedgerReport):
        return
    if content.ledger:
        yield _without_ledger(content)
    if isinstance(content, DeadLetter):
        return
    envelope = content.envelope if isinstance(content, DeadEnvelope) else content
    whole = DeadLetter(
        envelope.topic, envelope.id, envelope.received_at, envelope.body, _REASON, error,
        envelope.ledger,
    )  # fmt: skip
    for form in (DeadEnvelope(envelope, _REASON, error), whole):
        yield form
        yield _without_ledger(form)


def _without_ledger(content: Envelope | DeadLetter | DeadEnvelope) -> Content:
    if isinstance(content, DeadEnvelope):
        return replace(content, envelope=replace(content.envelope, ledger=""))
    return replace(content, ledger="")
