"""What a body can make us hold: some times its bytes, whatever is in it."""

import contextlib
import gzip
import tracemalloc

import pytest

from appliance.api.bodies.decoding import decode
from appliance.api.bodies.plan import read_plan
from appliance.config import load
from appliance.errors import InputError

MIB = 2**20
SIZE = 4 * MIB
CONFIG = load({"APPLIANCE_MAX_MESSAGE_BYTES": "8MiB"})
EVENT = b'{"specversion":"1.0","id":"1","source":"s","type":"t","data":%b}'
#: Times its bytes that a body takes, with what it came as. A message is copied once, text takes up
#: to four times its bytes while it is decoded, and the least messages have 50 bytes of Python each.
TIMES = 8
#: The same of a batch of the least events: each has attributes, a kilobyte of Python.
EVENTS_TIMES = 20


@pytest.mark.parametrize(
    ("name", "content_type", "split", "make"),
    [
        ("numbers", None, "array", lambda: b"[" + b"1," * (SIZE // 2) + b"1]"),
        ("arrays", None, "array", lambda: b"[" + b"[]," * (SIZE // 3) + b"1]"),
        ("one array", None, "array", lambda: b"[[" + b"[]," * (SIZE // 3) + b"1]]"),
        ("depth", None, "array", lambda: b"[" * SIZE),
        ("quotes", None, "array", lambda: b"[" + b'"\\"' * (SIZE // 3)),
        ("one line", "application/x-ndjson", None, lambda: b"[" + b"[]," * (SIZE // 3) + b"1]\n"),
        ("empty lines", "application/x-ndjson", None, lambda: b"\n" * SIZE),
        ("separators", "application/json-seq", None, lambda: b"\x1e" * SIZE),
        ("event", "application/cloudevents+json", None, lambda: EVENT % (b"[]" + b" " * SIZE)),
        ("data", "application/cloudevents+json", None,
         lambda: EVENT % (b"[" + b"[]," * (SIZE // 3 - 99) + b"1]")),
        ("members", "application/cloudevents+json", None,
         lambda: b"{" + b",".join(b'"%d":1' % n for n in range(SIZE // 12)) + b"}"),
        ("events", "application/cloudevents-batch+json", None,
         lambda: b"[" + b",".join([EVENT % b"1"] * (SIZE // 70)) + b"]"),
        ("parts", "multipart/form-data; boundary=x", None,
         lambda: b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n" * (SIZE // 60)),
        ("headers", "multipart/form-data; boundary=x", None,
         lambda: b"--x\r\n" + b"a:b\r\n" * (SIZE // 5)),
        ("fields", "application/x-www-form-urlencoded", None, lambda: b"a=b&" * (SIZE // 4)),
        ("one field", "application/x-www-form-urlencoded", None,
         lambda: b"a=" + b"%41" * (SIZE // 3)),
        ("short lines", "text/plain", "lines", lambda: b"ab\r\n" * (SIZE // 4)),
        ("text", "text/plain; charset=latin1", None, lambda: b"\xe9" * (SIZE // 2)),
        ("wide text", "text/plain; charset=utf-32", None,
         lambda: ("a\U0001f600" * (SIZE // 8)).encode("utf-32")),
    ],
)  # fmt: skip
def test_a_body_takes_a_bounded_number_of_times_its_bytes(name, content_type, split, make):
    values = {b"content-encoding": b"gzip"}
    if content_type:
        values[b"content-type"] = content_type.encode()
    plan = read_plan(list(values.items()), values, CONFIG, split=split, is_inbox=True)
    raw = gzip.compress(make()[:SIZE], 1)
    tracemalloc.start()
    try:
        with contextlib.suppress(InputError):
            decode(plan, raw, CONFIG)
        times = EVENTS_TIMES if name == "events" else TIMES
        assert tracemalloc.get_traced_memory()[1] < times * SIZE
    finally:
        tracemalloc.stop()
