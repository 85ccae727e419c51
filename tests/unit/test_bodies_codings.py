"""Compressed bodies: what they unpack to, and what of them is refused."""

import contextlib
import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.api.bodies.codings import parse_codings, undo
from appliance.errors import BodyError, EncodingError, InputError, TooLargeError

BODY = b'{"level":"info","message":"a line"}\n' * 200
MOST = 2**20


def deflate(body: bytes, window: int) -> bytes:
    packer = zlib.compressobj(wbits=window)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    ("value", "codings"),
    [
        (b"gzip", ("gzip",)),
        (b" GZip ", ("gzip",)),
        (b"x-gzip", ("gzip",)),
        (b"deflate", ("deflate",)),
        (b"identity", ()),
        (b"", ()),
        (b"identity, gzip", ("gzip",)),
        (b"deflate ,gzip", ("deflate", "gzip")),
        (b"gzip,,gzip", ("gzip", "gzip")),
    ],
)
def test_codings_are_read_in_the_order_in_which_they_were_applied(value, codings):
    assert parse_codings(value) == codings


@pytest.mark.parametrize("value", [b"br", b"zstd", b"gzip, br", b"\xff", b"gzip;q=1", b"gzip gzip"])
def test_a_coding_that_is_not_taken_is_named(value):
    with pytest.raises(EncodingError, match="send gzip, deflate"):
        parse_codings(value)


def test_a_body_with_too_many_codings_is_refused():
    with pytest.raises(EncodingError, match="can have 3 codings"):
        parse_codings(b"gzip, gzip, gzip, gzip")


@pytest.mark.parametrize(
    ("packed", "codings"),
    [
        (gzip.compress(BODY, mtime=0), ("gzip",)),
        (gzip.compress(BODY[:100], mtime=0) + gzip.compress(BODY[100:], mtime=0), ("gzip",)),
        (deflate(BODY, 15), ("deflate",)),
        (deflate(BODY, -15), ("deflate",)),
        (gzip.compress(deflate(BODY, 15), mtime=0), ("deflate", "gzip")),
        (deflate(gzip.compress(BODY, mtime=0), -15), ("gzip", "deflate")),
    ],
)
def test_a_packed_body_becomes_what_it_was(packed, codings):
    assert undo(packed, codings, MOST) == BODY


def test_a_raw_deflate_body_that_begins_like_zlib_becomes_what_it_was():
    # A stored block; its first byte has five bits of padding, which may be anything.
    raw = b"\x78" + b"\x01\x00" + b"\xfe\xff" + b"A"
    last = deflate(b"B", -15)
    assert int.from_bytes(raw[:2], "big") % 31 == 0
    assert undo(raw + last, ("deflate",), MOST) == b"AB"


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("size", [MOST - 1, MOST])
def test_a_body_can_unpack_to_the_limit(coding, size):
    packed = gzip.compress(b"a" * size) if coding == "gzip" else deflate(b"a" * size, 15)
    assert len(undo(packed, (coding,), MOST)) == size


@pytest.mark.parametrize(
    "packed", [gzip.compress(b"\0" * (MOST + 1), mtime=0), gzip.compress(b"\0" * 2**26, mtime=0)]
)
def test_a_bomb_is_refused_and_takes_no_more_memory_than_the_limit(packed):
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError, match="unpacked body has more than 1048576 bytes"):
            undo(packed, ("gzip",), MOST)
        assert tracemalloc.get_traced_memory()[1] < 4 * MOST
    finally:
        tracemalloc.stop()


def test_a_bomb_within_a_gzip_body_is_refused():
    packed = gzip.compress(gzip.compress(b"\0" * 2**26))
    with pytest.raises(TooLargeError):
        undo(packed, ("gzip", "gzip"), MOST)


@pytest.mark.parametrize(
    "packed", [gzip.compress(BODY, mtime=0), deflate(BODY, 15), deflate(BODY, -15)]
)
def test_a_body_that_is_cut_off_anywhere_is_refused(packed):
    coding = "gzip" if packed.startswith(b"\x1f\x8b") else "deflate"
    for end in range(len(packed)):
        with pytest.raises(BodyError):
            undo(packed[:end], (coding,), MOST)


@pytest.mark.parametrize(
    "behind", [b"\0", b"garbage", b"\x1f\x8b", gzip.compress(b"", mtime=0)[:-1]]
)
def test_something_behind_the_end_is_refused(behind):
    with pytest.raises(BodyError):
        undo(gzip.compress(BODY, mtime=0) + behind, ("gzip",), MOST)
    with pytest.raises(BodyError):
        undo(deflate(BODY, 15) + behind, ("deflate",), MOST)


def test_a_gzip_body_of_countless_empty_members_is_refused():
    with pytest.raises(BodyError, match="10000 members"):
        undo(gzip.compress(b"", mtime=0) * 20_000, ("gzip",), MOST)


def test_a_changed_byte_never_goes_unseen():
    packed = gzip.compress(BODY, mtime=0)
    for place in range(10, len(packed)):
        changed = bytearray(packed)
        changed[place] ^= 0x10
        with contextlib.suppress(BodyError, TooLargeError):
            assert undo(bytes(changed), ("gzip",), MOST) == BODY  # a bit that means nothing


@given(
    st.binary(max_size=300),
    st.lists(st.sampled_from(["gzip", "deflate"]), max_size=3).map(tuple),
    st.sampled_from([b"", b"\x1f\x8b\x08", b"\x78\x9c", b"\x78\x01"]),
)
def test_bytes_of_a_stranger_are_refused_or_unpacked(body, codings, begin):
    with contextlib.suppress(InputError):
        assert len(undo(begin + body, codings, 10_000)) <= 10_000 or not codings


@given(st.binary(max_size=2000), st.integers(1, 50))
def test_a_packed_body_comes_out_as_it_was(body, times):
    body *= times
    for packed, codings in (
        (gzip.compress(body), ("gzip",)),
        (deflate(body, -15), ("deflate",)),
        (deflate(gzip.compress(body), 15), ("gzip", "deflate")),
    ):
        assert undo(packed, codings, MOST) == body
