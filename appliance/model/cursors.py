"""Cursors: places in a list, as opaque words that clients and pages hand back. Pure."""

import base64
import binascii
import re
from typing import Final

from appliance.errors import InputError
from appliance.model.timestamps import is_time

#: First byte of every cursor: should a cursor's content change, an old one is recognized by it.
_VERSION: Final = b"1"
_MAX_SEQ: Final = 2**63 - 1


def seq_cursor(seq: int) -> str:
    """Encode a place in the order of storing as an opaque word."""
    return _encode(str(seq))


def parse_seq_cursor(name: str, text: str | None) -> int | None:
    """Return the place that a cursor holds; `0` stands for the place before the first row."""
    if text is None:
        return None
    if text == "0":
        return 0
    digits = _decode(name, text)
    if not re.fullmatch(r"0|[1-9][0-9]{0,18}", digits) or int(digits) > _MAX_SEQ:
        raise _bad_cursor(name)
    return int(digits)


def topic_cursor(topic: str) -> str:
    """Encode a place in the list of topics as an opaque word."""
    return _encode(topic)


def parse_topic_cursor(name: str, text: str | None) -> str:
    """Return the place that a cursor holds; the start of the list if the parameter is absent."""
    return "" if text is None else _decode(name, text)


def due_cursor(due_at: str, seq: int) -> str:
    """Encode a place in the list of delayed messages as an opaque word."""
    return _encode(f"{due_at} {seq}")


def parse_due_cursor(name: str, text: str | None) -> tuple[str, int]:
    """Return the place that a cursor holds; the start of the list if the parameter is absent."""
    if text is None:
        return "", 0
    due_at, _, seq = _decode(name, text).partition(" ")
    if not is_time(due_at) or not re.fullmatch(r"[1-9][0-9]{0,18}", seq) or int(seq) > _MAX_SEQ:
        raise _bad_cursor(name)
    return due_at, int(seq)


def _encode(text: str) -> str:
    return base64.urlsafe_b64encode(_VERSION + text.encode()).decode().rstrip("=")


def _decode(name: str, text: str) -> str:
    """Undo _encode. Only its own spelling is accepted, so that a cursor has one spelling."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        value = raw[1:].decode("ascii")
    except (ValueError, binascii.Error) as error:
        raise _bad_cursor(name) from error
    if raw[:1] != _VERSION or _encode(value) != text:
        raise _bad_cursor(name)
    return value


def _bad_cursor(name: str) -> InputError:
    return InputError(f"{name}: not a cursor; use the `next` or `newest` of an earlier answer")
