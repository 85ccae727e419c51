"""The events of a stream, as the command line reads them."""

import pytest

from appliance.cli import stream_client
from appliance.cli.stream_client import events, follow
from appliance.errors import ClientError, InputError

STREAM = (
    b"retry: 1000\nid: MQ\nevent: place\ndata: {}\n\n:\n\n"
    b'id: Mg\ndata: {"body":"a: \\n\xc3\xa4"}\n\nid:Mw\r\ndata:{"body":"b"}\r\n\r\n'
)
FOUND = [
    ("MQ", "place", "{}"),
    ("Mg", "message", '{"body":"a: \\n\u00e4"}'),
    ("Mw", "message", '{"body":"b"}'),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 1000])
def test_events_are_the_same_however_their_bytes_come(size):
    pieces = [STREAM[start : start + size] for start in range(0, len(STREAM), size)]
    assert [tuple(event) for event in events(pieces)] == FOUND


def test_an_event_that_is_broken_off_is_none():
    assert len(list(events([STREAM[:-2]]))) == 2


def test_a_line_without_an_end_is_refused(monkeypatch):
    monkeypatch.setattr(stream_client, "_LARGEST", 1000)
    with pytest.raises(ClientError, match="too long"):
        list(events([b"data: " + b"x" * 600, b"x" * 600]))


class Streams:
    """Stands for a client: each stream ends as it is told here."""

    def __init__(self, *streams):
        self.asked = []
        self._streams = list(streams)

    def download(self, path):
        self.asked.append(path)
        for piece in self._streams.pop(0):
            if isinstance(piece, Exception):
                raise piece
            yield piece


def test_a_follower_goes_on_behind_the_last_event_and_tells_once(monkeypatch):
    monkeypatch.setattr(stream_client.time, "sleep", lambda _: None)
    client = Streams(
        [STREAM],
        [ClientError("nothing answers")],
        [ClientError("nothing answers")],
        [b'id: NA\ndata: {"body":"c"}\n\n', InputError("the token was revoked")],
    )
    told = []
    messages = follow(client, "/v1/stream", {"since": "1h"}, told.append)
    assert [next(messages)["body"] for _ in range(3)] == ["a: \n\u00e4", "b", "c"]
    with pytest.raises(InputError):
        next(messages)
    assert client.asked[0] == "/v1/stream?all=1&since=1h"
    assert client.asked[1:] == ["/v1/stream?all=1&after=Mw"] * 3
    assert len(told) == 2
    assert told[1].startswith("connected again")


def test_a_follower_that_never_reached_anyone_says_why():
    with pytest.raises(ClientError, match="nothing answers"):
        next(follow(Streams([ClientError("nothing answers")]), "/v1/stream", {}, print))
