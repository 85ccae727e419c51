"""JSON texts within a body: the elements of an array, or a sequence. Each stays as it was written.

A number of thirty digits, a key that comes twice, the order of members: all of it stays, since the
bytes are cut out and not written again. The parsers here build no objects for what is in a text, so
that a body costs memory by its bytes and not by its brackets.
"""

import re
from typing import Any, Final

import msgspec
import orjson

from appliance.errors import BodyError, TooLargeError

#: Bytes up to which a text is parsed into objects to check it: they take up to 30 times as much.
PARSED_BYTES: Final = 2**20
#: Commas up to which an array is cut without counting its elements before.
_COMMAS: Final = 1_000_000


class _Data(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw()
    data_base64: msgspec.Raw = msgspec.Raw()


_ANY: Final = msgspec.json.Decoder(msgspec.Raw)
_ARRAY: Final = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_DATA: Final = msgspec.json.Decoder(_Data)

#: Members of an object, but for its data.
_MOST_MEMBERS: Final = 1000
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\Z)', re.DOTALL)
#: A part of a body that ends in no string: so many characters, each string counted as one.
_WINDOW: Final = re.compile(rb'(?:[^"]|"(?:[^"\\]++|\\.)*+(?:"|\Z)){1,60000}+', re.DOTALL)
_NOT_STRUCTURE: Final = bytes(set(range(256)) - set(b"[]{},"))
_DEPTH: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1, ord(","): 0}

_SEPARATOR: Final = b"\x1e"
_SPACE: Final = b" \t\r\n"
_EMPTY_RECORDS: Final = re.compile(rb"\x1e(?:[ \t\r\n]*+\x1e)++")


class JsonTextError(ValueError):
    """Not a JSON text; the message says why."""


def check_json(text: bytes) -> None:
    """Raise JsonTextError where `text` is not one JSON text."""
    try:
        if len(text) <= PARSED_BYTES:
            orjson.loads(text)
        else:
            text.decode()
            _ANY.decode(text)
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise JsonTextError(_words(error)) from error


def members(text: bytes) -> dict[str, bytes]:
    """Return the members of an object, each value as it was written; of several, the last.

    `data` and `data_base64` can be as long as they like, and of the others there can be a thousand.
    Raises JsonTextError where it is no object, or has more.
    """
    data = _decode(_DATA, text)
    inside = sum(bytes(each).count(b",") for each in (data.data, data.data_base64))
    if text.count(b",") - inside > _MOST_MEMBERS:
        raise JsonTextError(f"it can have {_MOST_MEMBERS} members")
    found: dict[str, Any] = _decode(_OBJECT, text)
    return {name: bytes(value) for name, value in found.items()}


def elements(body: bytes, most: int) -> list[bytes]:
    """Return the elements of an array, as they were written; `most` is how many there can be.

    An element can still be no JSON to the letter, such as 1e999. Raises BodyError where the body is
    no array, TooLargeError for too many.
    """
    if body.count(b",") > max(_COMMAS, most):  # each element takes 50 bytes
        _check_count(body, most)
    try:
        found = _decode(_ARRAY, body)
    except JsonTextError as error:
        raise BodyError(f"the body is no JSON array ({error}); nothing of it was kept") from error
    if len(found) > most:
        raise TooLargeError(f"{len(found)} messages in one request; the limit is {most}")
    return [bytes(each) for each in found]


def sequence(body: bytes, most: int) -> list[bytes]:
    """Return the texts of a JSON text sequence (RFC 7464); `most` is how many there can be.

    A number or word that has no line feed behind it can be cut off, and keeps the separator that is
    in no JSON. Raises BodyError where something stands before the first, TooLargeError for too
    many.
    """
    if body.count(_SEPARATOR) > most:  # separators in a row are one
        body = _EMPTY_RECORDS.sub(_SEPARATOR, body)
        if body.count(_SEPARATOR) > most + 1:
            raise TooLargeError(f"more than {most} messages in one request, which is the limit")
    before, *records = body.split(_SEPARATOR)
    if before.strip(_SPACE):
        raise BodyError("a JSON text sequence begins with the byte 1E; nothing of it was kept")
    texts = []
    for record in records:
        text = record.strip(_SPACE)
        if not text:
            continue
        is_cut = text[-1:] not in b'"]}' and record[-1:] not in _SPACE
        texts.append(_SEPARATOR + text if is_cut else text)
    return texts


def _decode(decoder: Any, text: bytes) -> Any:
    try:
        text.decode()
        return decoder.decode(text)
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise JsonTextError(_words(error)) from error


def _check_count(body: bytes, most: int) -> None:
    """Raise TooLargeError where an array has too many elements, before any is made."""
    count, depth = 1, 0
    for window in _WINDOW.finditer(body):
        for character in _STRING.sub(b"", window[0]).translate(None, _NOT_STRUCTURE):
            depth += _DEPTH[character]
            if depth == 1 and character == 0x2C:
                count += 1
                if count > most:
                    raise TooLargeError(f"more than {most} messages in one request")


def _words(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "too deep"
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    return str(error)
