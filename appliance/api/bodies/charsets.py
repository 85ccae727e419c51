"""Text in any charset becomes UTF-8, so that text functions find what is in it. Pure.

The charset is the one that the Content-Type names, or the one whose byte order mark the body begins
with. Nothing is guessed: where the two contradict each other, or the bytes contradict the charset,
the body is refused.
"""

import codecs
from encodings.aliases import aliases
from typing import Final

from appliance.errors import BodyError

#: Byte order marks, the longer ones first.
_MARKS: Final = (
    (b"\xef\xbb\xbf", "utf_8"),
    (b"\xff\xfe\0\0", "utf_32_le"),
    (b"\0\0\xfe\xff", "utf_32_be"),
    (b"\xff\xfe", "utf_16_le"),
    (b"\xfe\xff", "utf_16_be"),
)
#: What a text can begin with that has such a mark.
MARKED: Final = frozenset(mark[:1] for mark, _ in _MARKS)
#: Charsets that need a mark to say which byte comes first.
_OPEN: Final = {"utf_16": ("utf_16_le", "utf_16_be"), "utf_32": ("utf_32_le", "utf_32_be")}
#: Python's names of the charsets that are known. A list, because Python would look any name up
#: that a stranger sends, remember it for ever, and call codecs that are no charsets.
_KNOWN: Final = frozenset(
    {
        "ascii",
        "big5",
        "big5hkscs",
        "cp037",
        "cp437",
        "cp737",
        "cp775",
        "cp850",
        "cp852",
        "cp855",
        "cp857",
        "cp858",
        "cp860",
        "cp861",
        "cp862",
        "cp863",
        "cp864",
        "cp865",
        "cp866",
        "cp869",
        "cp874",
        "cp932",
        "cp949",
        "cp950",
        "cp1125",
        "cp1250",
        "cp1251",
        "cp1252",
        "cp1253",
        "cp1254",
        "cp1255",
        "cp1256",
        "cp1257",
        "cp1258",
        "euc_jp",
        "euc_kr",
        "gb18030",
        "gb2312",
        "gbk",
        "iso2022_jp",
        "iso2022_kr",
        "iso8859_2",
        "iso8859_3",
        "iso8859_4",
        "iso8859_5",
        "iso8859_6",
        "iso8859_7",
        "iso8859_8",
        "iso8859_9",
        "iso8859_10",
        "iso8859_11",
        "iso8859_13",
        "iso8859_14",
        "iso8859_15",
        "iso8859_16",
        "johab",
        "koi8_r",
        "koi8_u",
        "latin_1",
        "mac_cyrillic",
        "mac_greek",
        "mac_latin2",
        "mac_roman",
        "mac_turkish",
        "shift_jis",
        "tis_620",
        "utf_8",
        "utf_16",
        "utf_16_be",
        "utf_16_le",
        "utf_32",
        "utf_32_be",
        "utf_32_le",
    }
)
#: Names that senders use and Python does not know.
_ALSO: Final = {"windows_31j": "cp932", "x_sjis": "shift_jis", "cp65001": "utf_8"}
#: Bytes that are decoded at once: text takes up to four times its bytes in memory.
_PIECE_BYTES: Final = 64 * 1024


def find_charset(name: str) -> str | None:
    """Return Python's name of a charset; None for one that is not known here."""
    plain = name.strip().lower().replace("-", "_").replace(" ", "_").replace(":", "_")
    known = _ALSO.get(plain) or aliases.get(plain, plain)
    return known if known in _KNOWN else None


def charset_of_mark(body: bytes) -> str | None:
    """Return the name of the charset whose byte order mark a body begins with."""
    return next((_shown(name) for mark, name in _MARKS if body.startswith(mark)), None)


def to_utf8(body: bytes, charset: str | None, *, is_cut: bool = False) -> bytes:
    """Return a text as UTF-8, without its byte order mark.

    `charset` is what `find_charset` returned; None where the sender named none, and then a body
    without a mark stays as it is. `is_cut` says that it will be cut at its line feeds.

    Raises BodyError where the bytes contradict the charset, or it is not clear which one it is.
    """
    mark, marked = next((m for m in _MARKS if body.startswith(m[0])), (b"", None))
    if charset is None:
        if marked is None:
            if is_cut and _looks_like_utf16(body):
                raise BodyError(
                    "the text looks like UTF-16 without a byte order mark; say "
                    "charset=utf-16le or utf-16be in the Content-Type"
                )
            return body
        charset = marked
    elif charset in _OPEN:
        little, big = _OPEN[charset]
        if charset == "utf_16" and marked == "utf_32_le":  # a text that begins with a NUL
            mark, marked = mark[:2], "utf_16_le"
        if marked not in (little, big):
            raise BodyError(
                f"{_shown(charset)} without its byte order mark does not say which byte comes "
                f"first; name {_shown(little)} or {_shown(big)}"
            )
        charset = marked
    elif marked not in (None, charset):
        if charset == "utf_16_le" and marked == "utf_32_le":
            mark = mark[:2]
        else:
            raise BodyError(
                f"the Content-Type says {_shown(charset)}, and the body begins with the byte "
                f"order mark of {_shown(str(marked))}"
            )
    return _decode(body, len(mark), charset)


def _decode(body: bytes, start: int, charset: str) -> bytes:
    decoder = codecs.getincrementaldecoder(charset)()
    pieces: list[bytes] = []
    try:
        if charset in ("utf_8", "ascii"):  # what they are stays
            for place in range(start, len(body), _PIECE_BYTES):
                decoder.decode(body[place : place + _PIECE_BYTES])
            decoder.decode(b"", final=True)
            return body[start:] if start else body
        pieces += [
            decoder.decode(body[place : place + _PIECE_BYTES]).encode()
            for place in range(start, len(body), _PIECE_BYTES)
        ]
        pieces.append(decoder.decode(b"", final=True).encode())
    except UnicodeError as error:
        raise BodyError(
            f"the body is not {_shown(charset)}, which it says it is; nothing of it was kept"
        ) from error
    return b"".join(pieces).removeprefix(codecs.BOM_UTF8)


def _looks_like_utf16(body: bytes) -> bool:
    """Whether every line feed is one of UTF-16: cut there, each line would be broken."""
    if len(body) % 2 or b"\0" not in body:
        return False
    feeds = body.count(b"\n")
    little = body[0::2].count(b"\n") == feeds == body.count(b"\n\0")
    big = body[1::2].count(b"\n") == feeds == body.count(b"\0\n")
    return feeds > 0 and (little or big)


def _shown(charset: str) -> str:
    return charset.replace("_", "-")
