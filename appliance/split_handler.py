"""A handler that cuts a body of several values into a message for each, as they came.

    APPLIANCE_HANDLERS=events=appliance.split_handler:split

It is for senders whose requests can't be changed, and that put many events into one: a webhook that
posts an array, a shipper that posts lines.
"""

import json
from collections.abc import Iterator
from typing import Final

from appliance.handler import HandlerMessage

#: Members of an object around the values that senders are known to use: AWS Firehose, Azure, Google
#: and many others.
_WRAPPERS: Final = ("records", "Records", "events", "messages", "items", "data")
_SPACE: Final = " \t\r\n"

_decode: Final = json.JSONDecoder().raw_decode


def split(message: HandlerMessage) -> list[HandlerMessage] | HandlerMessage:
    """Return a message for each element of a JSON array, or for each line of JSON lines.

    The array can be the body, or the only member of an object, under a usual name. The text of an
    element stays as it is. Whatever is none of these is returned as it came. An empty array is no
    message.
    """
    try:
        text = message.text()
        parts = list(_elements(text) or _lines(text))
    except (ValueError, RecursionError):
        return message
    if parts == [text]:
        return message
    return [message.replace(body=part, content_type="application/json") for part in parts]


def _elements(text: str) -> Iterator[str] | None:
    """Return the elements of an array, each as it is written; None where the body is none."""
    start = _skip(text, 0)
    if text[start : start + 1] == "[":
        return _of_array(text, start)
    if text[start : start + 1] != "{":
        return None
    name_at = _skip(text, start + 1)
    if text[name_at : name_at + 1] != '"':
        return None
    name, end = _decode(text, name_at)
    colon = _skip(text, end)
    array = _skip(text, colon + 1)
    if name not in _WRAPPERS or text[array : array + 1] != "[":
        return None
    _, end = _decode(text, array)
    last = _skip(text, end)
    if text[last : last + 1] != "}" or _skip(text, last + 1) != len(text):
        return None  # there is more in the object, which would be lost
    return _of_array(text[array:end], 0)


def _of_array(text: str, start: int) -> Iterator[str]:
    """Yield the elements of the array that the text is from `start` on. Raises ValueError."""
    place = _skip(text, start + 1)
    is_first = True
    while text[place : place + 1] != "]":
        if not is_first:
            if text[place : place + 1] != ",":
                raise ValueError("no array")
            place = _skip(text, place + 1)
        is_first = False
        _, end = _decode(text, place)
        yield text[place:end]
        place = _skip(text, end)
    if _skip(text, place + 1) != len(text):
        raise ValueError("more than an array")


def _lines(text: str) -> Iterator[str]:
    """Yield the lines of JSON lines. Raises ValueError where one is no JSON."""
    for line in text.split("\n"):
        if part := line.strip(_SPACE):
            json.loads(part)
            yield part


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place] in _SPACE:
        place += 1
    return place
