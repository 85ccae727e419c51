"""The beginning of a body as a page shows it: text as it came, or bytes as hex. Pure."""

from typing import Final, NamedTuple

#: Bytes that are shown as text, and as hex.
TEXT_BYTES: Final = 64 * 1024
HEX_BYTES: Final = 1024
_PER_LINE: Final = 16


class BodyPreview(NamedTuple):
    """`text` is to be shown verbatim; `is_whole` is whether it is all of the body."""

    text: str
    is_text: bool
    is_whole: bool


def body_preview(body: bytes) -> BodyPreview:
    """Return what is shown of a body."""
    if b"\0" not in body:
        try:
            text = body[:TEXT_BYTES].decode()
        except UnicodeDecodeError as error:
            # The cut may lie within a character.
            is_cut = len(body) > TEXT_BYTES and error.start >= TEXT_BYTES - 3
            text = body[: error.start].decode() if is_cut else ""
        if text or not body:
            return BodyPreview(text, is_text=True, is_whole=len(body) <= TEXT_BYTES)
    lines = [_line(at, body[at : at + _PER_LINE]) for at in range(0, min(len(body), HEX_BYTES), 16)]
    return BodyPreview("\n".join(lines), is_text=False, is_whole=len(body) <= HEX_BYTES)


def _line(at: int, part: bytes) -> str:
    characters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
    return f"{at:06x}  {part.hex(' '):<{_PER_LINE * 3 - 1}}  {characters}"
