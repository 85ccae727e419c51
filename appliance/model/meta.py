"""Meta: the JSON text kept beside a message that says how it came. Pure.

It is an object of at most MAX_BYTES. Its members, each of which can be absent:

`via`
    The way in: `http`, `cli`, `amqp`, `mqtt` or `redrive`.
`method`, `query`, `remote`
    The request's method and query, and the client's IP address.
`token`, `inbox`
    The name of the token, or of the inbox address, by which it came.
`verified`
    Whether its signature was verified.
`event_id`
    The id that its sender gave the event. Another body under it is the same message: senders count
    their attempts in the body.
`line`
    The number of the line in its request, or in the file that it is from.
`accepted_at`, `expires_at`
    When a delayed message was sent, and when one with an end is over.
`charset`, `file`, `cloudevent`, `topic`
    What of a body or an address was changed or taken apart (see docs/bodies.md).
`headers`
    The headers that were kept; their names are in lower case.
`dropped`
    Names of headers that had no room.

A part that takes messages in can add members of its own.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from appliance.model.timestamps import is_time

#: The member that says when a message is over.
EXPIRES_AT: Final = "expires_at"
#: Bytes of a message's meta.
MAX_BYTES: Final = 8 * 1024
#: Bytes of one header's value. A longer one is dropped: half a signature is none.
_MAX_VALUE_BYTES: Final = 4 * 1024
#: Bytes of the list `dropped`; of more names it lists the first.
_DROPPED_BYTES: Final = 1024
#: Bytes of the names of the two lists.
_FRAME: Final = len(',"headers":{},"dropped":[]')
#: SQLite's JSON functions refuse what is nested deeper than 1000.
_MAX_BRACKETS: Final = 1000
#: A header whose name has one of these words can hold a secret of its sender's.
_SECRET: Final = ("auth", "cookie", "token", "secret", "password", "passwd", "api-key", "apikey",
                  "access-key", "credential", "session")  # fmt: skip
#: Headers whose names have such a word though they hold none: an id of Twilio's.
_NO_SECRET: Final = frozenset({"i-twilio-idempotency-token"})
#: Characters of a media type that is kept: an AMQP short string has 255 bytes.
_CONTENT_TYPE: Final = re.compile(r"[\x20-\x7e]{1,255}")


def encode(members: Mapping[str, Any], headers: Mapping[str, str]) -> str | None:
    """Return the meta of `members` and `headers`; None where there is neither.

    Headers have room in their order; one that has none is named in `dropped`. A member that is
    None is left out. Raises ValueError where the members alone have no room.
    """
    kept: dict[str, str] = {}
    dropped: list[str] = []
    whole = {name: value for name, value in members.items() if value is not None}
    room = MAX_BYTES - len(orjson.dumps(whole)) - _FRAME
    names_room = min(room, _DROPPED_BYTES)
    room -= names_room
    for name, value in headers.items():
        name_size = len(orjson.dumps(name)) + len(",")
        size = name_size + len(orjson.dumps(value)) + len(":")
        if size <= room and len(value) <= _MAX_VALUE_BYTES:
            kept[name] = value
            room -= size
        elif name_size <= names_room:
            dropped.append(name)
            names_room -= name_size
    if kept:
        whole["headers"] = kept
    if dropped:
        whole["dropped"] = dropped
    if not whole:
        return None
    text = orjson.dumps(whole)
    if len(text) > MAX_BYTES:
        raise ValueError(f"a meta of {len(text)} bytes; it has {MAX_BYTES} at most")
    return text.decode()


def extended(text: str | None, members: Mapping[str, Any]) -> str | None:
    """Return a meta with further members; those that are None are left out.

    Headers make room for them, and then the query. Raises ValueError where they alone have none.
    """
    more = {name: value for name, value in members.items() if value is not None}
    if not more:
        return text
    whole = (orjson.loads(text) if text else {}) | more
    data = orjson.dumps(whole)
    if len(data) <= MAX_BYTES:
        return data.decode()
    headers = whole.pop("headers", {})  # they fill what the others leave
    whole.pop("dropped", None)
    if len(orjson.dumps(whole)) > MAX_BYTES - _FRAME:
        whole.pop("query", None)
    return encode(whole, headers)


def without_headers(text: str | None) -> str | None:
    """Return a meta without its headers; as many of their names as have room are in `dropped`.

    It is for many copies of one meta: what is left is some hundred bytes.
    """
    whole = orjson.loads(text) if text else {}
    room, dropped = _DROPPED_BYTES, []
    for name in (*whole.pop("headers", {}), *whole.pop("dropped", ())):
        room -= len(orjson.dumps(name)) + len(",")
        if room >= 0:
            dropped.append(name)
    if dropped:
        whole["dropped"] = dropped
    return orjson.dumps(whole).decode() if whole else None


def without(text: str | None, name: str) -> str | None:
    """Return a meta without a member; None where nothing is left, or someone broke it by SQL."""
    if text is None or f'"{name}"' not in text:
        return text
    try:
        members = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(members, dict):
        return None
    members.pop(name, None)
    return orjson.dumps(members).decode() if members else None


def is_sound(text: object) -> bool:
    """Whether a meta that came from outside is one: a JSON object that SQLite reads too."""
    if not isinstance(text, str) or not text.startswith("{"):
        return False
    if text.count("[") + text.count("{") > _MAX_BRACKETS:
        return False
    try:
        data = text.encode()
        return len(data) <= MAX_BYTES and isinstance(orjson.loads(data), dict)
    except ValueError:  # no JSON, or a text that is not Unicode
        return False


def is_of_event(text: str | None) -> bool:
    """Whether a message is an event that its sender named: by `event_id`, or as a CloudEvent."""
    if not text or ('"event_id"' not in text and '"cloudevent"' not in text):
        return False
    try:
        members = orjson.loads(text)
    except orjson.JSONDecodeError:  # written by another program
        return False
    return isinstance(members, dict) and ("event_id" in members or "cloudevent" in members)


def expires_at(text: str | None) -> str | None:
    """Return when a message is over; None: never."""
    if not text or f'"{EXPIRES_AT}":' not in text:
        return None
    try:
        members = orjson.loads(text)
    except orjson.JSONDecodeError:  # written by another program
        return None
    at = members.get(EXPIRES_AT) if isinstance(members, dict) else None
    return at if isinstance(at, str) and is_time(at) else None


def may_be_kept(name: str) -> bool:
    """Whether a header can be kept; not one whose name says that it holds a secret."""
    lower = name.lower()
    return lower in _NO_SECRET or not any(word in lower for word in _SECRET)


def content_type(value: str | bytes | None) -> str | None:
    """Return the media type that a sender named, as it came; None where it can't be one."""
    if not value:
        return None
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    text = text.strip()
    return text if _CONTENT_TYPE.fullmatch(text) else None


def header_text(value: bytes) -> str:
    """Return a header's value as text: UTF-8 where it is, else Latin-1 (RFC 9110, 5.5)."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
