"""Bodies as they come: sized or in chunks, in pieces of any size, and never without a bound."""

import random

import pytest

from appliance.api.http.body import BodyFramingError, ChunkedBody, SizedBody


def fed(reader, data, size):
    """Feed pieces of `size` bytes; return how many bytes the reader took."""
    taken = 0
    for place in range(0, len(data), size):
        piece = data[place : place + size]
        count = reader.feed(piece)
        taken += count
        if count < len(piece) or reader.complete:
            break
    return taken


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_a_sized_body_takes_its_bytes_and_no_more(size):
    reader = SizedBody(5)
    assert fed(reader, b"helloPOST /", size) == 5
    assert (bytes(reader.body), reader.complete) == (b"hello", True)


CHUNKED = b"5\r\nhello\r\n1;a=b;c\r\n \r\n006\r\nworld!\r\n0;x\r\nA: b\r\nC:\r\n\r\n"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_chunked_body_is_put_together_however_it_is_cut(size):
    reader = ChunkedBody()
    assert fed(reader, CHUNKED + b"GET / HTTP/1.1\r\n\r\n", size) == len(CHUNKED)
    assert (bytes(reader.body), reader.complete) == (b"hello world!", True)


@pytest.mark.parametrize("seed", range(20))
def test_any_chunks_come_back_as_they_were(seed):
    chance = random.Random(seed)
    chunks = [chance.randbytes(chance.randint(1, 300)) for _ in range(chance.randint(0, 30))]
    data = b"".join(b"%X\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    reader = ChunkedBody()
    assert fed(reader, data, chance.randint(1, 500)) == len(data)
    assert (bytes(reader.body), reader.complete) == (b"".join(chunks), True)


@pytest.mark.parametrize(
    "data",
    [
        b"zz\r\n",
        b"\r\n",
        b"5\nhello\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello!\r\n",
        b"5\r\nhell\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"-5\r\nhello\r\n",
        b"5;a\0b\r\nhello\r\n",
        b"5;a\rb\r\nhello\r\n",
        b"5;a\n",
        b"1" * 16 + b"\r\n",
        b"0\r\nno trailer\r\n\r\n",
        b"0\r\n: b\r\n\r\n",
        b"0\r\n folded: b\r\n\r\n",
        b"0\r\nA: b\n\r\n",
        b"0\r\n\n",
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_chunks_that_can_be_read_in_two_ways_are_refused(data, size):
    with pytest.raises(BodyFramingError):
        fed(ChunkedBody(), data + b"0\r\n\r\n", size)


def endless(first, piece):
    yield first
    while True:
        yield piece


@pytest.mark.parametrize(
    ("first", "piece"),
    [
        (b"0\r\n", b"a:b\r\n"),  # trailers
        (b"0\r\na:", b"b"),  # one trailer's value
        (b"0\r\n", b"a"),  # one trailer's name
        (b"5;", b"x"),  # one extension
        (b"", b"1;" + b"x" * 900 + b"\r\na\r\n"),  # an extension of every chunk
        (b"", b"0"),  # a size without an end
        (b"1\r\na", b"x"),  # a chunk's end that does not come
    ],
)
def test_bytes_between_the_chunks_have_a_bound(first, piece):
    reader, sent = ChunkedBody(), 0
    with pytest.raises(BodyFramingError):  # noqa: PT012  # how many pieces it takes is the point
        for data in endless(first, piece):
            sent += len(data)
            assert sent < 64 * 1024
            reader.feed(data)
    assert len(reader.body) < 64
