"""A body of many messages: its lines, and whether they can all be kept. Pure."""

import re
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import orjson

from appliance.api.bodies.json_texts import PARSED_BYTES, JsonTextError, check_json
from appliance.api.bodies.plan import Form
from appliance.config import Config
from appliance.errors import BodyError, TooLargeError

_EMPTY: Final = re.compile(rb"\n(?:\r?+\n)++")


def split(body: bytes, most: int) -> list[bytes]:
    r"""Return the lines of a body, ended by \n or \r\n, without the empty ones.

    `most` is how many there can be. Raises TooLargeError for far too many, before they are made.
    """
    if body.count(b"\n") > 2 * most:
        full = _EMPTY.sub(b"\n", body)
        if full.count(b"\n") > most + 1:
            raise TooLargeError(f"more than {most} messages in one request, which is the limit")
        body = full
    lines = body.split(b"\n")
    if b"\r" in body:
        lines = [line.removesuffix(b"\r") for line in lines]
    return list(filter(None, lines))


def check(form: Form, body: bytes, lines: Sequence[bytes], config: Config) -> None:
    """Check the lines of a body: all of them are kept or none.

    Raises BodyError for no line or one that is not JSON where it must be, TooLargeError for too
    many lines or one that is too long.
    """
    if not lines:
        raise BodyError("the body has no line that is not empty")
    if len(lines) > config.max_batch_messages:
        raise TooLargeError(
            f"{len(lines)} messages in one request; the limit is {config.max_batch_messages}"
        )
    longest = config.max_message_bytes
    if len(body) > longest and max(map(len, lines)) > longest:
        number = _line_number(body, next(line for line in lines if len(line) > longest))
        raise TooLargeError(f"line {number} is longer than {longest} bytes")
    if form is Form.NDJSON:
        _check_json(body, lines)


def _check_json(body: bytes, lines: Sequence[bytes]) -> None:
    is_long = len(body) > PARSED_BYTES and max(map(len, lines)) > PARSED_BYTES
    check: Callable[[bytes], object] = check_json if is_long else orjson.loads
    try:
        deque(map(check, lines), maxlen=0)
    except ValueError:
        for line in lines:
            try:
                check_json(line)
            except JsonTextError as error:
                number = _line_number(body, line)
                raise BodyError(
                    f"line {number} is not JSON ({error}); nothing of the batch was kept"
                ) from error
        raise


def _line_number(body: bytes, wanted: bytes) -> int:
    """Return the number, from 1, of the first line that is `wanted`, empty lines counted."""
    lines = (line.removesuffix(b"\r") for line in body.split(b"\n"))
    return next(number for number, line in enumerate(lines, 1) if line == wanted)
