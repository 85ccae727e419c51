"""pika reads the frames that we write."""

import pika
import pytest
from pika import frame as pika_frame

from appliance.broker.publish.frames import FrameWriter


def read(data):
    """Have pika read all frames of `data`."""
    found = []
    while data:
        used, frame = pika_frame.decode_frame(data)
        assert used, "not a whole frame"
        found.append(frame)
        data = data[used:]
    return found


@pytest.mark.parametrize("content_type", [None, "", "text/plain; charset=utf-8", "x" * 255])
@pytest.mark.parametrize("user", [None, "appliance"])
@pytest.mark.parametrize("size", [0, 1, 200, 4088, 4089, 100_000])
def test_pika_reads_what_we_write(size, user, content_type):
    body = bytes(n % 251 for n in range(size))
    headers = {
        "received_at": "2026-11-21T01:25:21.132Z",
        "count": 1,
        "bytes": 2**40,
        "ledger": '["é", 1]',
        "CC": ["b.topic", "é"],
    }
    publishing = FrameWriter(7, 4096, "exchange", "an app", user)
    frames = list(publishing.frames("a.topic", "a.kind", "an-id", headers, body, content_type))
    assert all(len(each) <= 4096 for each in frames[1:])
    method, header, *bodies = read(b"".join(frames))
    assert {frame.channel_number for frame in (method, header, *bodies)} == {7}
    publish = method.method
    assert isinstance(publish, pika.spec.Basic.Publish)
    assert (publish.exchange, publish.routing_key) == ("exchange", "a.topic")
    assert (publish.mandatory, publish.immediate) == (True, False)
    assert header.body_size == size
    assert header.properties == pika.BasicProperties(
        delivery_mode=2, app_id="an app", type="a.kind", message_id="an-id", headers=headers,
        content_type=content_type, user_id=user,
    )  # fmt: skip
    assert b"".join(frame.fragment for frame in bodies) == body
