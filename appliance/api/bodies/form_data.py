"""Forms: their fields become one JSON message, each of their files a message of its own. Pure."""

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

import orjson
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import (
    Data,
    Epilogue,
    Field,
    File,
    MultipartDecoder,
    NeedData,
    State,
)

from appliance.api.bodies.charsets import find_charset, to_utf8
from appliance.api.bodies.media_types import parse_media_type
from appliance.errors import BodyError, TooLargeError

#: Fields and files of one form.
_MOST_PARTS: Final = 1000
#: Bytes of a part's headers.
_HEADER_BYTES: Final = 16 * 1024
#: Bytes of a boundary (RFC 2046, 5.1.1), with some to spare for senders that don't count.
_BOUNDARY_BYTES: Final = 200
#: Characters of a file's name, and of its field's, that are kept beside it.
_NAME_LENGTH: Final = 255
#: Bytes whose percent signs are undone at once.
_UNQUOTED_BYTES: Final = 64 * 1024
#: Bytes that the decoder gets at once: it searches what it holds again and again.
_PIECE_BYTES: Final = 64 * 1024


#: HTML's way to say the charset of a form, in one without percent-encoding of its own.
_CHARSET_FIELD: Final = re.compile(rb"(?:\A|&)_charset_=([A-Za-z0-9._:-]{1,40})(?=&|\s*\Z)")
#: How a body begins that is no form, although curl, whose -d calls everything a form, says so.
_NO_FORM: Final = (b"{", b"[", b"<", b'"')


class FormFile(NamedTuple):
    """A file of a form: `field` is the name of the input, `name` the file's own."""

    field: str
    name: str
    content_type: str
    body: bytes


class FormContents(NamedTuple):
    """What a form has. A field that came several times has a list of its values, in order."""

    fields: dict[str, Any]
    files: list[FormFile]

    def encode_fields(self) -> bytes:
        """Return the fields as a JSON object."""
        return orjson.dumps(self.fields)


def looks_urlencoded(body: bytes) -> bool:
    """Whether a body that is said to be a form can be one: it is neither JSON nor plain words."""
    return b"=" in body and not body.lstrip().startswith(_NO_FORM)


def read_urlencoded(body: bytes, charset: str | None) -> FormContents:
    """Read an `application/x-www-form-urlencoded` body.

    `charset` is Python's name of the charset of the percent-encoded bytes; None: the one in a field
    `_charset_`, which browsers fill in, or UTF-8. Raises BodyError where they are not in it, or for
    too many fields.
    """
    if charset is None and (named := _CHARSET_FIELD.search(body)):
        charset = find_charset(named[1].decode())
    encoding = charset or "utf_8"
    if body.count(b"&") >= _MOST_PARTS:
        raise BodyError(f"a form can have {_MOST_PARTS} fields")
    fields: dict[str, Any] = {}
    try:
        for pair in filter(None, body.strip(b"\r\n").split(b"&")):
            name, _, value = pair.partition(b"=")
            _add(fields, _unquoted(name).decode(encoding), _unquoted(value).decode(encoding))
    except UnicodeError as error:
        shown = encoding.replace("_", "-")
        raise BodyError(f"the form is not {shown}; nothing of it was kept") from error
    return FormContents(fields, [])


def _unquoted(text: bytes) -> bytes:
    """Undo the percent signs, some bytes at a time: urllib takes 80 times the bytes it gets.

    Some senders write bytes as they are, without percent signs; they stay.
    """
    pieces, place = [], 0
    while place < len(text):
        end = place + _UNQUOTED_BYTES
        if end < len(text) and (cut := text.rfind(b"%", end - 2, end)) > 0:
            end = cut
        pieces.append(unquote_to_bytes(text[place:end].replace(b"+", b" ")))
        place = end
    return b"".join(pieces)


def read_multipart(body: bytes, boundary: str) -> FormContents:
    """Read a `multipart/form-data` body.

    A file without bytes is a field, `{"filename": ..., "bytes": 0}`: a message has at least one
    byte. A file input that was left empty is left out. Raises BodyError where the body is no form,
    TooLargeError for too many parts or too long headers.
    """
    delimiter = boundary.encode("latin-1", "replace")
    if not 0 < len(delimiter) <= _BOUNDARY_BYTES:
        raise BodyError("the Content-Type of a form names its boundary, of 1 to 70 characters")
    fields: dict[str, Any] = {}
    files: list[FormFile] = []
    charset = "utf_8"
    try:
        for part, data in _parts(body, delimiter):
            name, kind = part.name or "", part.headers.get("content-type", "")
            if isinstance(part, Field):
                text = _text(data, kind, charset, name)
                if name == "_charset_":  # HTML's way to say it
                    charset = find_charset(text) or charset
                _add(fields, name, text)
            elif data:
                filename = part.filename[:_NAME_LENGTH]
                files.append(FormFile(name[:_NAME_LENGTH], filename, kind, data))
            elif part.filename:
                _add(fields, name, {"filename": part.filename, "bytes": 0})
    except RequestEntityTooLarge as error:
        raise TooLargeError(f"a form can have {_MOST_PARTS} parts") from error
    except ValueError as error:
        raise BodyError(f"the form can't be read ({error}); nothing of it was kept") from error
    return FormContents(fields, files)


def _parts(body: bytes, boundary: bytes) -> Iterator[tuple[Any, bytes]]:
    """Yield each part with its bytes."""
    decoder = MultipartDecoder(boundary, max_parts=_MOST_PARTS)
    part: Field | File | None = None
    pieces: list[bytes] = []
    for event in _events(decoder, body):
        if isinstance(event, Field | File):
            part, pieces = event, []
        elif isinstance(event, Data) and part is not None:
            pieces.append(event.data)
            if not event.more_data:
                yield part, b"".join(pieces)
                part = None


def _events(decoder: MultipartDecoder, body: bytes) -> Iterator[Any]:
    """Yield the decoder's events; what it holds that is no part's data has a bound."""
    event: Any = None
    for place in range(0, len(body), _PIECE_BYTES):
        decoder.receive_data(body[place : place + _PIECE_BYTES])
        while not isinstance(new := decoder.next_event(), NeedData):
            yield (event := new)
        if len(decoder.buffer) > _HEADER_BYTES + _PIECE_BYTES:
            if event is None:
                raise BodyError("the form does not begin with its boundary; nothing was kept")
            if decoder.state is State.EPILOGUE:
                raise BodyError("something long stands behind the form; nothing was kept")
            raise TooLargeError(f"the headers of a part can have {_HEADER_BYTES} bytes")
    decoder.receive_data(None)
    while not isinstance(event, Epilogue):
        yield (event := decoder.next_event())


def _text(data: bytes, content_type: str, charset: str, name: str) -> str:
    given = parse_media_type(content_type.encode("latin-1", "replace")).parameters.get("charset")
    known = find_charset(given) if given else charset
    try:
        return to_utf8(data, known or charset).decode()
    except (BodyError, UnicodeDecodeError) as error:
        raise BodyError(
            f"the field {name[:40]!r} is not {charset.replace('_', '-')}; nothing was kept"
        ) from error


def _add(fields: dict[str, Any], name: str, value: Any) -> None:
    if name not in fields:
        fields[name] = value
    elif isinstance(fields[name], list):
        fields[name].append(value)
    else:
        fields[name] = [fields[name], value]
