"""Columns of an envelope say what its messages say, or nothing."""

import random

import orjson
import pytest

from appliance.errors import EnvelopeError
from appliance.model.columns import columns
from appliance.model.ids import IdSource
from appliance.model.wire import Envelope, Kind, Message, addressed, batch, mixed, pack

TIME = "2026-01-02T03:04:05.678Z"
LATER = "2026-01-02T03:04:06.000Z"
IDS = IdSource()
#: For each place of a row, values that can stand there, and values that can't.
GOOD = (["a", "b.c", "d-_9"], [TIME, LATER], ["x", "", "\u00e9\u6f22", "\U0001f600", "a\nb"])
TYPES, METAS = [None, "", "text/csv"], [None, '{"via":"http"}', "{}"]
ODD = [None, 7, True, 1.5, "", "A", "a" * 101, [], ["x"], {}, "{", TIME + "Z", IDS.new().upper()]


def messages(table):
    """The messages of columns, as `addressed` returns them."""
    return [
        (topic, Message(message_id, at, text, content_type or None, meta or None))
        for topic, message_id, at, text, content_type, meta in zip(*table, strict=True)
    ]


def read(envelope):
    """What `addressed` returns, with no empty content type, or None where it raises."""
    try:
        found = addressed(envelope)
    except EnvelopeError:
        return None
    return [(topic, m._replace(content_type=m.content_type or None)) for topic, m in found]


def sound_row(chance, kind):
    topics, times, texts = GOOD
    row = [IDS.new(), chance.choice(times), chance.choice(texts)]
    if chance.random() < 0.4:
        row += [None, chance.choice(TYPES), chance.choice(METAS)]
    return [chance.choice(topics), *row] if kind is Kind.MIXED else row


def spoil(chance, row):
    """Change one thing of a row, which may or may not be wrong then."""
    row = list(row)
    what = chance.randrange(4)
    if what == 0:
        row[chance.randrange(len(row))] = chance.choice(ODD)
    elif what == 1:
        row.append(chance.choice([*ODD, ["reason", "words"]]))
    elif what == 2:
        del row[chance.randrange(len(row)) :]
    else:
        return chance.choice([{"0": 1}, "abcd", None, 7])
    return row


@pytest.mark.parametrize("kind", [Kind.PACK, Kind.MIXED])
def test_columns_of_text_messages_are_those_messages(kind):
    chance = random.Random(1)
    own = ("text/plain", '{"n":1}') if kind is Kind.PACK else (None, None)
    for count in range(1, 40):
        rows = [sound_row(chance, kind) for _ in range(count)]
        envelope = Envelope("a", kind, IDS.new(), TIME, count, 9, orjson.dumps(rows), "", *own)
        table = columns(envelope)
        assert table is not None
        assert messages(table) == read(envelope)


@pytest.mark.parametrize("kind", [Kind.PACK, Kind.MIXED])
def test_columns_of_any_rows_are_those_messages_or_none(kind):
    chance, seen = random.Random(2), set()
    for _ in range(20_000):
        rows = [sound_row(chance, kind) for _ in range(chance.randint(1, 4))]
        place = chance.randrange(len(rows))
        rows[place] = spoil(chance, rows[place])
        envelope = Envelope("a", kind, IDS.new(), TIME, len(rows), 9, orjson.dumps(rows))
        table, expected = columns(envelope), read(envelope)
        if table is not None:
            assert messages(table) == expected, rows
        seen.add((table is None, expected is None))
    assert seen == {(False, False), (True, False), (True, True)}


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b"[]", b'{"a":1}', b'"abcd"', b"[1]", b"[null]", b"[[]]", b"[[[]]]",
     b'[["a","\\ud800"]]', b"[" * 100_000, b"\xff"],
    ids=lambda b: repr(b[:16]),
)  # fmt: skip
@pytest.mark.parametrize("kind", [Kind.PACK, Kind.MIXED])
def test_columns_of_garbage_are_none(kind, body):
    assert columns(Envelope("a", kind, IDS.new(), TIME, 1, len(body) or 1, body)) is None


def test_columns_of_an_envelope_that_lies_about_its_count_are_none():
    rows = [Message(IDS.new(), TIME, b"x") for _ in range(3)]
    body = mixed([("a", each) for each in rows], 3).body
    for count in (1, 2, 4):
        assert columns(Envelope("a", Kind.MIXED, IDS.new(), TIME, count, 3, body)) is None


def test_columns_of_bytes_and_of_dead_messages_are_none():
    text = Message(IDS.new(), TIME, "x")
    for other in (b"\xff", b"a\0b"):
        assert columns(pack("a", [text, text._replace(body=other)], 4)) is None
    dead = text._replace(dead=("json", "line 5"))
    assert columns(mixed([("a", text), ("b", dead)], 2)) is None


def test_columns_of_a_batch_of_lines_are_none():
    assert columns(batch("a", IDS.prefix(), TIME, [b"x", b"y"])) is None
