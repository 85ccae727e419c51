"""Fits messages of other AMQP and MQTT clients to their topics' schemas, in the worker.

Nobody can answer those clients, so a message that does not fit becomes a dead letter; one of a
schema that only observes is stored with a mark. The schemas are those that the database has when
the messages are about to be stored. Messages of the API come checked, and cost nothing here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import structlog

from appliance.model import meta as metas
from appliance.model.contents import Content, DeadEnvelope, ForeignMessage, LedgerReport
from appliance.schemas.book import OBSERVE, QUARANTINE, SCHEMA, SchemaBook, TopicSchema
from appliance.store.access_rows import SchemaRow
from appliance.store.base import Store

_UNCHECKED: Final = "the topic's JSON Schema can't be checked here (the log says why)"

_log: Any = structlog.get_logger(__name__)


class ForeignFitter:
    """Used by one thread."""

    def __init__(self, store: Store) -> None:
        self._access = store.access
        self._schemas = store.schemas
        self._letters = store.dead_letters
        self._version = -1
        self._rows = _by_topic(())
        self._book = SchemaBook(lambda: self._rows)

    def fitted_all(
        self, contents: Sequence[Content], beat: Callable[[], None] = lambda: None
    ) -> list[Content]:
        """Return the contents with what is said of foreign messages by the schemas.

        `beat` is called between two checks. Raises StoreError where the database can't be read.
        """
        version = self._access.version()
        if version != self._version:
            self._rows = _by_topic(self._schemas.all())
            self._version = version
        fitted: list[Content] = []
        for content in contents:
            if isinstance(content, ForeignMessage):
                beat()
                fitted.append(self._fitted(content))
            else:
                fitted.append(content)
        return fitted

    def _fitted(self, message: ForeignMessage) -> Content:
        if message.redelivered and self._is_letter(message):
            return LedgerReport("")  # it says nothing: all is done that there is to do
        schema = self._book.of(message.topic)
        error = None if schema is None else _error(schema, message.body)
        if schema is None or error is None:
            return message
        if schema.mode == OBSERVE:
            return _with_meta(message, {"schema": f"invalid: {error}"})
        if schema.mode == QUARANTINE:
            message = _with_meta(message, {"quarantine": f"topic {message.topic}"})
        return DeadEnvelope(message, SCHEMA, error)  # unless it is a row by now

    def _is_letter(self, message: ForeignMessage) -> bool:
        """Whether it became a dead letter when it was delivered before, under an earlier schema."""
        for seq in self._letters.of_message(message.id):
            letter = self._letters.find(seq)
            if letter is not None and (letter.reason, letter.topic) == (SCHEMA, message.topic):
                return self._letters.body(seq) == message.body
        return False


def _by_topic(rows: Sequence[SchemaRow]) -> Mapping[str, SchemaRow]:
    return {row.topic: row for row in rows}


def _error(schema: TopicSchema, body: bytes) -> str | None:
    if schema.checker is None:  # nobody can be told to send it again later
        return None if schema.mode == OBSERVE else _UNCHECKED
    try:
        return schema.error(body)
    except Exception as error:  # noqa: BLE001  # any client can publish anything
        # A worker that ends would receive it again.
        _log.exception("schema check failed", topic=schema.row.topic)
        return f"can't be checked ({type(error).__name__})"


def _with_meta(message: ForeignMessage, members: Mapping[str, str]) -> ForeignMessage:
    try:
        meta = metas.extended(message.meta, members)
    except ValueError:  # its properties fill it
        meta = metas.extended(None, members)
    return replace(message, meta=meta)
