"""The messages of a pack or a mixed envelope column by column: one call for all, none for each.

Nearly all messages are texts that are not dead. Their envelopes are read here in a third of the
time that `wire.addressed` takes, which reads all others, and says what is wrong. Pure.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import repeat
from types import NoneType
from typing import Any, Final, NamedTuple

import orjson

from appliance.errors import TopicError
from appliance.model.ids import is_id
from appliance.model.meta import is_sound
from appliance.model.timestamps import is_time
from appliance.model.topics import check_topic
from appliance.model.wire import Envelope, Kind

#: Elements of a pack's row that is a text and says nothing more: id, time, text.
_TEXT_ROW: Final = 3
#: Elements of one that says more: base64, which is null, content type, meta.
_MORE: Final = 3
_TEXT: Final = {str}
_TEXT_OR_NONE: Final = {str, NoneType}

#: Names that are none raise, and are not remembered.
_check_topic: Final = lru_cache(4096)(check_topic)


class Columns(NamedTuple):
    """Messages: each has the same place in every column. Empty: no content type, no meta."""

    topics: Sequence[str]
    ids: Sequence[str]
    times: Sequence[str]
    texts: Sequence[str]
    content_types: Iterable[str]
    metas: Iterable[str]


def columns(envelope: Envelope) -> Columns | None:
    """Return an envelope's messages; None where one is no text, is dead, or is not as it must be.

    Then `wire.addressed` returns them, or says what is wrong.
    """
    try:
        return _columns(envelope, orjson.loads(envelope.body))
    except (ValueError, TypeError, TopicError):
        return None


def _columns(envelope: Envelope, rows: Any) -> Columns | None:
    is_mixed = envelope.kind is Kind.MIXED
    if type(rows) is not list or len(rows) != envelope.count or set(map(type, rows)) != {list}:
        return None
    plain = is_mixed + _TEXT_ROW
    widths = set(map(len, rows))
    if widths == {plain}:
        table = list(zip(*rows, strict=True))
        content_types: Iterable[str] = repeat(envelope.content_type or "", len(rows))
        metas: Iterable[str] = repeat(envelope.meta or "", len(rows))
    elif widths <= {plain, plain + _MORE}:
        own = [None, envelope.content_type, envelope.meta]
        rows = [row + own if len(row) == plain else row for row in rows]
        *table, coded, types, more = zip(*rows, strict=True)
        if set(coded) != {None} or not _are_sound(types, more):
            return None
        content_types, metas = [each or "" for each in types], [each or "" for each in more]
    else:
        return None
    ids, times, texts = table[-_TEXT_ROW:]
    topics = table[0] if is_mixed else (envelope.topic,) * len(rows)
    if set(map(type, texts)) != _TEXT or not (all(map(is_id, ids)) and all(map(is_time, {*times}))):
        return None
    if is_mixed:
        for topic in {*topics}:
            _check_topic(topic)
    return Columns(topics, ids, times, texts, content_types, metas)


def _are_sound(types: Iterable[Any], metas: Iterable[Any]) -> bool:
    """Whether columns are of content types and of metas; many messages have the same meta."""
    return {*map(type, types)} <= _TEXT_OR_NONE and all(map(is_sound, {*metas} - {None}))
