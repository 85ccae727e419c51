"""Content codings (RFC 9110, 8.4): a compressed body becomes what it was, within a bound. Pure.

A body of a few hundred kilobytes can stand for half a gigabyte, so what comes out is counted while
it comes, and nothing is made beyond the bound.
"""

import re
import zlib
from typing import Final

from appliance.errors import BodyError, EncodingError, TooLargeError

#: Codings of one body. Each is undone within the bound, so more would only cost time.
_MOST_CODINGS: Final = 3
#: Members of one gzip body. Each costs some microseconds, and an empty one has 20 bytes.
_MOST_MEMBERS: Final = 10_000
#: Bytes that zlib gets at once: it copies what it does not use of them.
_PIECE_BYTES: Final = 32 * 1024
#: zlib's name of a format: a window of 32 KiB, and what is around it.
_GZIP, _ZLIB, _RAW = 31, 15, -15
_GZIP_BEGIN: Final = b"\x1f\x8b"

_SEPARATOR: Final = re.compile(r"\s*,\s*")
_NAMES: Final = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}


def parse_codings(value: bytes) -> tuple[str, ...]:
    """Read a Content-Encoding: the codings in the order in which they were applied.

    Raises EncodingError for one that is not taken, or for too many.
    """
    names = [name for name in _SEPARATOR.split(value.decode("latin-1").strip().lower()) if name]
    codings = [name for name in names if name != "identity"]
    for name in codings:
        if name not in _NAMES:
            raise EncodingError(
                f"the coding {name[:40]} is not taken; send gzip, deflate, or the body as it is"
            )
    if len(codings) > _MOST_CODINGS:
        raise EncodingError(f"a body can have {_MOST_CODINGS} codings")
    return tuple(_NAMES[name] for name in codings)


def undo(body: bytes, codings: tuple[str, ...], most: int) -> bytes:
    """Return the body without its codings, the last one undone first.

    Raises TooLargeError where more than `most` bytes come out of any of them, BodyError where the
    body is damaged, cut off, or has something behind its end.
    """
    for coding in reversed(codings):
        if coding == "gzip":
            body = _inflate(body, _GZIP, most)
        elif _looks_like_zlib(body):
            try:
                body = _inflate(body, _ZLIB, most)
            except BodyError:
                # Some senders leave zlib's header out, and a few bodies begin by chance like one.
                body = _inflate(body, _RAW, most)
        else:
            body = _inflate(body, _RAW, most)
    return body


def _looks_like_zlib(body: bytes) -> bool:
    return len(body) > 1 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0


def _inflate(body: bytes, window: int, most: int) -> bytes:
    name = "gzip" if window == _GZIP else "deflate"
    view, place = memoryview(body), 0
    pieces: list[bytes] = []
    left = most
    for _ in range(_MOST_MEMBERS):
        unpacker = zlib.decompressobj(window)
        while not unpacker.eof:
            given = view[place : place + _PIECE_BYTES]
            if not given:
                raise BodyError(f"the {name} body is cut off; nothing of it was kept")
            try:
                piece = unpacker.decompress(given, left + 1)
            except zlib.error as error:
                raise BodyError(f"the {name} body is damaged ({error})") from error
            place += len(given) - len(unpacker.unconsumed_tail) - len(unpacker.unused_data)
            left -= len(piece)
            if left < 0:
                raise TooLargeError(
                    f"the unpacked body has more than {most} bytes; nothing of it was kept"
                )
            pieces.append(piece)
        if place == len(body):
            return b"".join(pieces)
        if window != _GZIP or body[place : place + 2] != _GZIP_BEGIN:
            raise BodyError(f"something stands behind the end of the {name} body")
    raise BodyError(f"a gzip body can have {_MOST_MEMBERS} members")
