"""CloudEvents 1.0.2 over HTTP: their attributes, checked, and the key that they have. Pure.

An event is known by its `source` and `id`: two events with the same pair are one event. So none of
the attributes that an event must have is ever made up.
"""

import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

import orjson

from appliance.api.bodies.json_texts import JsonTextError, members
from appliance.errors import BodyError, InputError

#: The media types of one event and of a batch, in the JSON format.
EVENT: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
#: What the media types of every event format begin with.
ANY: Final = "application/cloudevents"

_REQUIRED: Final = ("specversion", "id", "source", "type")
#: The headers whose presence says that a request is an event in the binary mode.
HEADERS: Final = tuple(f"ce-{name}".encode() for name in _REQUIRED)

_NAME: Final = re.compile(r"[a-z0-9]{1,64}")
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
#: Bytes of an attribute, and of all that are kept beside the event, as JSON. A required one that is
#: longer is refused; another one is in the event itself, and is left out beside it.
_ATTRIBUTE_BYTES: Final = 1024
_KEPT_BYTES: Final = 4096
#: Characters that no attribute has (CloudEvents 1.0.2, 3.1).
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class CloudEvent(NamedTuple):
    """An event's attributes, of which the required ones are there, and its key."""

    attributes: dict[str, Any]

    @property
    def key(self) -> str:
        """The pair of source and id; with a space, so that no Idempotency-Key can be equal."""
        pair = orjson.dumps([self.attributes["source"], self.attributes["id"]])
        return f"cloudevent {pair.decode()}"

    def structured(self) -> bytes:
        """Return the event in the JSON format, without data."""
        return orjson.dumps(self.attributes)

    def kept(self) -> dict[str, Any]:
        """Return the attributes to keep beside the event: the required ones, and what fits."""
        kept, size = {}, 0
        for name in sorted(self.attributes, key=lambda name: name not in _REQUIRED):
            value = self.attributes[name]
            more = len(orjson.dumps({name: value}))
            if name in _REQUIRED or (more <= _ATTRIBUTE_BYTES and size + more <= _KEPT_BYTES):
                kept[name] = value
                size += more
        return kept


def of_headers(headers: Iterable[tuple[bytes, bytes]], content_type: bytes) -> CloudEvent:
    """Return the event of the binary mode: its attributes are headers, the body is its data.

    Raises InputError where a required one is missing, or one can't be read.
    """
    attributes: dict[str, Any] = {}
    for header, value in headers:
        if header.startswith(b"ce-") and (name := header[3:].decode("latin-1")):
            text = _header_value(name, value)
            if attributes.setdefault(name, text) != text:
                raise InputError(f"the header ce-{name[:40]} comes twice, with two values")
    media_type = content_type.decode("latin-1").strip()
    if media_type and attributes.setdefault("datacontenttype", media_type) != media_type:
        raise InputError("ce-datacontenttype contradicts the Content-Type; leave it out")
    _check(attributes, InputError, "ce-")
    return CloudEvent(attributes)


def of_json(text: bytes, where: str = "the event") -> CloudEvent:
    """Return the event of the structured mode.

    Raises BodyError, which begins with `where`, where it is no event.
    """
    try:
        found = members(text)
    except JsonTextError as error:
        raise BodyError(f"{where} is no JSON object ({error}); nothing was kept") from error
    if found.get("data_base64") == b"null":  # as if it were not there
        del found["data_base64"]
    if "data" in found and "data_base64" in found:
        raise BodyError(f"{where} has both data and data_base64; nothing was kept")
    if "data_base64" in found:
        _check_base64(found["data_base64"], where)
    attributes: dict[str, Any] = {}
    for name, raw in found.items():
        is_too_long = len(raw) > _ATTRIBUTE_BYTES and name not in _REQUIRED
        if is_too_long or name in ("data", "data_base64"):
            continue
        value = _json_value(raw, where, name)
        if value is not None:
            attributes[name] = value
    _check(attributes, BodyError, f"{where}: ")
    kept = {
        name: value
        for name, value in attributes.items()
        if _NAME.fullmatch(name) and isinstance(value, str | bool | int | float)
    }
    return CloudEvent(kept)


def _check(attributes: Mapping[str, Any], error: type[InputError], where: str) -> None:
    for name in _REQUIRED:
        value = attributes.get(name)
        if value is None:
            raise error(f"{where}{name} is missing; every CloudEvent has one")
        if not isinstance(value, str) or not value:
            raise error(f"{where}{name} is no text, or empty; every CloudEvent has one")
        if len(orjson.dumps(value)) > _ATTRIBUTE_BYTES:
            raise error(f"{where}{name} has more than {_ATTRIBUTE_BYTES} bytes")
        if _CONTROL.search(value):
            raise error(f"{where}{name} has a control character")
    if attributes["specversion"] != "1.0":
        raise error(f"{where}specversion is {attributes['specversion'][:20]!r}; send 1.0")


def _header_value(name: str, value: bytes) -> str:
    """Undo the quotes and then the percent signs (HTTP binding, 3.1.3.2)."""
    value = value.strip()
    if len(value) > 1 and value[:1] == value[-1:] == b'"':
        value = _ESCAPED.sub(rb"\1", value[1:-1])
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"the header ce-{name[:40]} is not UTF-8, percent-encoded") from error


def _json_value(raw: bytes, where: str, name: str) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BodyError(f"{where}: {name[:40]} is not JSON ({error})") from error


def _check_base64(raw: bytes, where: str) -> None:
    try:
        binascii.a2b_base64(orjson.loads(raw), strict_mode=True)
    except (ValueError, TypeError) as error:
        raise BodyError(f"{where}: data_base64 is no base64; nothing was kept") from error
