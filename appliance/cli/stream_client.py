"""Follows a stream of the API from the command line: on and on, across restarts of the API."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

from appliance.client import Client
from appliance.errors import ClientError

#: Seconds before a lost stream is opened again; doubled each time, up to the bound.
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 5.0
#: Bytes of one event: a message of 32 MiB of control characters, each written as six, and more.
_LARGEST: Final = 256 * 2**20

_Fields = dict[bytes, bytes]


class StreamedEvent(NamedTuple):
    """An event: its id, which is a cursor, its name (`message` where it has none), its data."""

    cursor: str
    name: str
    data: str


def follow(
    client: Client, path: str, query: dict[str, str], tell: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """Yield each message of the stream at `path` that `query` asks for, none twice, for ever.

    `tell` is called with words when the stream is lost, and when it is there again. Raises what
    `Client.request` raises where the request is refused, and before the first event also
    ClientError where nothing answers.
    """
    is_first, is_lost, pause = True, False, _FIRST_PAUSE
    while True:
        try:
            asked = urlencode({"all": "1", **query}, errors="surrogateescape")
            for event in events(client.download(f"{path}?{asked}")):
                query = {"after": event.cursor}
                if is_lost:
                    tell("connected again; nothing was missed")
                is_first, is_lost, pause = False, False, _FIRST_PAUSE
                if event.name == "message":
                    yield json.loads(event.data)
            reason = "the API ended the stream: it restarts, perhaps"
        except ClientError as error:
            if is_first:
                raise
            reason = str(error)
        if not is_lost:
            tell(f"{reason}\nconnecting again ...")
        is_lost = True
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


def events(pieces: Iterable[bytes]) -> Iterator[StreamedEvent]:
    """Yield the events of a stream that comes in pieces. Raises ClientError for one too long."""
    rest = bytearray()
    fields: _Fields = {}
    searched = 0
    for piece in pieces:
        rest += piece
        start = 0
        while (end := rest.find(b"\n", max(start, searched))) >= 0:
            line = bytes(rest[start:end]).removesuffix(b"\r")
            start, searched = end + 1, 0
            if line:
                name, _, value = line.partition(b":")
                fields[name] = value.removeprefix(b" ")
            elif b"data" in fields:
                yield _event(fields)
                fields = {}
        del rest[:start]
        searched = len(rest)
        if searched > _LARGEST:
            raise ClientError("an event of the stream is too long: it is not from this API")


def _event(fields: _Fields) -> StreamedEvent:
    cursor, name, data = (fields.get(each, b"").decode() for each in (b"id", b"event", b"data"))
    return StreamedEvent(cursor, name or "message", data)
