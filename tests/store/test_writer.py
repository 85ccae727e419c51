"""The writer: each message once, however often it comes."""

import random

import orjson
import pytest
from store_contents import IDS, TIME, lines, many, one, scattered

from appliance.errors import StoreError
from appliance.model.contents import DeadEnvelope, DeadLetter
from appliance.model.ids import ids_from, key_prefix
from appliance.model.timestamps import timestamp
from appliance.model.wire import (
    Envelope,
    Kind,
    Message,
    as_text,
    batch,
    mixed,
    pack,
    single,
    unpack,
)


def test_every_kind_is_stored_in_the_order_in_which_it_came(writer, contents):
    writer.store([one(b"1"), lines([b"2", b"3"]), many([b"4", b"5"]), one(b"6")])
    writer.store([lines([b"7"]), one(b"8"), one(b"9")])
    assert contents.bodies() == [b"%d" % n for n in range(1, 10)]
    assert [row.seq for row in contents.messages()] == list(range(1, 10))


@pytest.mark.parametrize("envelope", [one(b"a"), many([b"a", b"b\0"]), lines([b"a", b"b"])])
def test_a_redelivery_stores_nothing_again(writer, contents, envelope):
    writer.store([envelope])
    once = contents.messages()
    writer.store([envelope])  # after the commit
    writer.store([envelope, envelope, one(b"new"), envelope])  # amid others, in one transaction
    assert contents.messages()[: len(once)] == once
    assert len(contents.messages()) == len(once) + 1
    assert contents.dead() == []
    assert contents.counters() == contents.sums()


def test_the_first_delivery_twice_in_one_transaction_is_stored_once(writer, contents):
    envelopes = [one(b"a"), many([b"b", b"c"]), lines([b"d", b"e"])]
    writer.store([*envelopes, *envelopes])
    assert contents.bodies() == [b"a", b"b", b"c", b"d", b"e"]
    assert contents.dead() == []
    assert contents.counters() == contents.sums()


def test_a_retry_with_another_time_is_the_same_message(writer, contents):
    prefix = key_prefix("t", "key")
    writer.store([single("t", prefix + "00000000", TIME, b"x")])
    writer.store([single("t", prefix + "00000000", timestamp(2e9), b"x")])
    assert [row.received_at for row in contents.messages()] == [TIME]
    assert contents.dead() == []


def test_an_id_that_came_with_another_body_is_a_dead_letter_once(writer, contents):
    message_id = key_prefix("t", "key") + "00000000"
    writer.store([single("t", message_id, TIME, b"first")])
    other = single("t", message_id, TIME, b"other")
    writer.store([one(b"before"), other, one(b"after")])
    writer.store([other])  # redelivered
    assert contents.bodies() == [b"first", b"before", b"after"]
    assert contents.dead() == [("t", message_id, b"other", "conflict")]
    assert contents.counters() == contents.sums()


def test_a_conflict_within_one_transaction_is_found_too(writer, contents):
    message_id = key_prefix("t", "key") + "00000000"
    writer.store([single("t", message_id, TIME, body) for body in (b"first", b"\xff", b"first")])
    assert contents.bodies() == [b"first"]
    assert contents.dead() == [("t", message_id, b"\xff", "conflict")]


@pytest.mark.parametrize("member", ["event_id", "cloudevent"])
def test_an_event_that_its_sender_sent_again_is_the_first_one_and_no_conflict(
    writer, contents, member
):
    """Senders count their attempts in the body; the id is the event's."""
    message_id, meta = key_prefix("t", "evt") + "00000000", f'{{"{member}":"evt_1"}}'
    writer.store([single("t", message_id, TIME, b"try 1", None, meta)])
    writer.store([single("t", message_id, TIME, b"try 2", None, meta)])
    writer.store([single("t", message_id, TIME, b"x", None, '{"headers":{"event_id":"e"}}')])
    assert contents.bodies() == [b"try 1"]
    assert contents.dead() == [("t", message_id, b"x", "conflict")]


def test_the_same_bytes_as_text_and_as_bytes_do_not_conflict(writer, contents):
    """`x` may come alone in one envelope and, with the same key, in a pack in another."""
    message_id = key_prefix("t", "key") + "00000000"
    for body in (b"x", b"\xff\0"):
        writer.store([single("t", message_id, TIME, body)])
        writer.store([pack("t", [Message(message_id, TIME, body)], len(body))])
        message_id = key_prefix("t", "another key") + "00000000"
    assert contents.dead() == []


def test_a_batch_that_partly_conflicts_keeps_every_message_somewhere(writer, contents):
    prefix = key_prefix("t", "key")
    writer.store([batch("t", prefix, TIME, [b"a", b"b"])])
    writer.store([batch("t", prefix, TIME, [b"a", b"B", b"c"])])
    assert contents.bodies() == [b"a", b"b", b"c"]
    assert contents.dead() == [("t", prefix + "00000001", b"B", "conflict")]
    assert contents.counters() == contents.sums()


def garbage(kind, body, count=1, size=1):
    return Envelope("t", kind, IDS.new(), TIME, count, size, body)


GARBAGE = [
    pytest.param(garbage(kind, body, count), id=f"{kind.name}-{body[:20]!r}-{count}")
    for kind in (Kind.PACK, Kind.LINES, Kind.MIXED)
    for body, count in [
        (b"", 1),
        (b"\xff", 1),
        (b"[", 1),
        (b"[]", 1),
        (b"[1]", 1),
        (b"[null]", 1),
        (b'["a",{}]', 2),
        (b'{"a":"b"}', 1),
        (b'"abc"', 1),
        (b'["\\ud800"]', 1),
        (b'["a","b"]', 1),
        (b'["a","b"]', 3),
        (b"[" * 5000 + b"]" * 5000, 1),
    ]
]


@pytest.mark.parametrize("bad", GARBAGE)
def test_an_envelope_that_cannot_be_decoded_is_a_dead_letter_and_the_rest_is_stored(
    writer, contents, bad
):
    for _ in range(2):  # the second time it is a redelivery
        writer.store([one(b"before"), bad, lines([b"after 1", b"after 2"])])
    assert contents.bodies() == [b"before", b"after 1", b"after 2"] * 2
    assert contents.dead() == [("t", bad.id, bad.body, "undecodable")]
    assert contents.counters() == contents.sums()


def test_a_dead_letter_is_kept_once_and_byte_by_byte(writer, contents):
    letter = DeadLetter("no topic/at all", "any id", TIME, bytes(range(256)), "bad-topic", "why")
    writer.store([letter])
    writer.store([letter, one(b"x"), letter])
    assert contents.dead() == [("no topic/at all", "any id", bytes(range(256)), "bad-topic")]
    assert [row.error for row in contents.letters()] == ["why"]


@pytest.mark.parametrize("seed", range(5))
def test_the_topics_sums_are_right_whatever_comes_how_often(writer, contents, seed):
    source = random.Random(seed)
    seen: list[Envelope] = []
    for _ in range(30):
        group = []
        for _ in range(source.randint(1, 5)):
            if seen and source.random() < 0.3:
                group.append(source.choice(seen))
                continue
            make = source.choice([one, many, lines])
            bodies = [source.randbytes(source.randint(1, 9)) for _ in range(source.randint(1, 4))]
            if source.random() < 0.5:
                bodies = ["\u00e4\U0001f980".encode() for _ in bodies]
            when = timestamp(1.7e9 + source.random() * 1e6)
            topic = source.choice("abc")
            group.append(make(bodies[0] if make is one else bodies, topic, when))
        seen += group
        writer.store(group)
    assert contents.counters() == contents.sums()
    total = sum(e.count for e in {e.id: e for e in seen}.values())
    assert len(contents.messages()) == total


ALPHABET = (
    "".join(map(chr, range(1, 128)))
    + '\u0080\u009f\u00ff\u2028\u2029\ufeff\ufffd\uffff\U0001f980\U0010ffff\u0301\\\\\\""u0d8'
)


@pytest.mark.parametrize("seed", range(30))
def test_a_batch_of_lines_is_stored_as_it_was_written(writer, contents, seed):
    source = random.Random(seed)
    texts = [
        "".join(source.choices(ALPHABET, k=source.randint(1, 80))).encode() for _ in range(300)
    ]
    envelope = lines(texts)
    assert envelope.kind is Kind.LINES
    writer.store([envelope])
    assert [(row.id, row.received_at, row.body.decode()) for row in contents.messages()] == [
        (m.id, m.received_at, m.body) for m in unpack(envelope)
    ]
    assert contents.bodies() == texts
    assert all(row.text for row in contents.messages())
    assert contents.counters() == contents.sums()


def test_literal_escapes_in_text_stay_what_they_are(writer, contents):
    texts = [rb"\u0000", rb"\ud800", rb"\\u0000", b"\\", b'"', rb"\n"]
    writer.store([lines(texts)])
    assert contents.bodies() == texts


def test_a_long_batch_counts_its_ids_up(writer, contents):
    envelope = lines([b"x"] * 20_000)
    writer.store([envelope])
    assert [row.id for row in contents.messages()] == ids_from(envelope.id, 20_000)


def test_an_envelope_with_a_forged_count_does_not_stop_the_worker(writer, contents):
    body = orjson.dumps(["a"])
    writer.store([Envelope("t", Kind.LINES, IDS.new(), TIME, 2, 1, body), one(b"next")])
    assert contents.bodies() == [b"next"]
    assert contents.counters() == contents.sums()


def test_as_text_agrees_with_what_is_read_back(writer, contents):
    source = random.Random(7)
    bodies = [source.randbytes(source.randint(1, 6)) for _ in range(2_000)]
    writer.store([many(bodies)])
    assert [row.body.decode() if row.text else row.body for row in contents.messages()] == list(
        map(as_text, bodies)
    )


def test_text_is_told_from_other_bytes(writer, contents):
    bodies = [
        b"text",
        "\u00e4\u2028".encode(),
        b"1",
        b"1.5",
        b"null",
        b"\r",
        b"a\0b",
        b"\xff",
        b"\0",
    ]
    writer.store([one(body) for body in bodies])
    writer.store([many(bodies)])
    writer.store([lines(bodies[:6])])
    is_text = [True] * 6 + [False] * 3
    assert [bool(row.text) for row in contents.messages()] == is_text + is_text + is_text[:6]
    assert contents.bodies() == [*bodies, *bodies, *bodies[:6]]


def test_a_stored_message_is_seen_by_other_connections(store, writer):
    for number in range(1, 20):
        writer.store([one(b"%d" % number)])
        assert store.reader.totals().messages == number


def test_a_writer_wants_the_schema_of_this_program(new_store):
    with pytest.raises(StoreError):
        new_store.open_writer()
    new_store.migrate()
    new_store.open_writer().close()


def test_two_writers_store_one_after_the_other(store, contents):
    first, second = store.open_writer(), store.open_writer()
    for number in range(0, 20, 2):
        first.store([one(b"%d" % number)])
        second.store([one(b"%d" % (number + 1))])
    first.close()
    second.close()
    assert contents.bodies() == [b"%d" % number for number in range(20)]
    assert contents.counters() == contents.sums()


WHOLE = '{"via":"http","headers":{"x-github-event":"push"}}'


def test_each_message_keeps_its_content_type_and_its_meta(writer, contents):
    messages = [
        Message(IDS.new(), TIME, b"1", "text/csv", WHOLE),
        Message(IDS.new(), TIME, b"2"),
        Message(IDS.new(), TIME, b"\xff", "image/png", None),
    ]
    writer.store([
        single("t", IDS.new(), TIME, b"0", "a/b", '{"via":"cli"}'),
        pack("t", messages, 3),
        batch("t", IDS.prefix(), TIME, [b"4", b"5"], "text/plain", WHOLE),
        batch("t", IDS.prefix(), TIME, [b"6", b"\xff"], None, WHOLE),
    ])  # fmt: skip
    assert [(row.content_type, row.meta) for row in contents.messages()] == [
        ("a/b", '{"via":"cli"}'),
        *[(message.content_type, message.meta) for message in messages],
        *[("text/plain", WHOLE)] * 2,
        *[(None, WHOLE)] * 2,
    ]


def test_message_that_is_dead_is_a_letter_and_its_neighbours_are_rows(writer, contents):
    envelope = pack(
        "t",
        [
            Message(IDS.new(), TIME, b"1"),
            Message(IDS.new(), TIME, b"{", "application/json", WHOLE, ("json", "line 2")),
            Message(IDS.new(), timestamp(2e9), b"3", None, WHOLE),
        ],
        3,
    )
    for _ in range(2):  # the second time it is a redelivery
        writer.store([one(b"before"), envelope])
    assert contents.bodies() == [b"before", b"1", b"3", b"before"]
    (row,) = contents.letters()
    assert (row.body, row.reason, row.error) == (b"{", "json", "line 2")
    assert (row.content_type, row.meta) == ("application/json", WHOLE)
    assert contents.counters() == contents.sums()


def test_messages_of_several_topics_are_rows_in_their_order(writer, contents):
    bodies = [b"%d" % number for number in range(10)]
    envelope = scattered(bodies)
    for _ in range(2):  # the second time it is a redelivery
        writer.store([one(b"before"), envelope, one(b"behind", "u")])
    rows = contents.messages()[:12]
    assert [(row.topic, row.body) for row in rows] == [
        ("t", b"before"), *zip("tuvtuvtuvt", bodies, strict=True), ("u", b"behind"),
    ]  # fmt: skip
    assert len(contents.messages()) == 14
    assert contents.counters() == contents.sums()


def test_each_message_of_several_topics_dies_under_its_own(writer, contents):
    first = one(b"first", "v")
    writer.store([first])
    messages = [
        ("t", Message(IDS.new(), TIME, "1")),
        ("u", Message(IDS.new(), TIME, "{", dead=("json", "no"))),
        ("v", Message(first.id, TIME, "2")),
        ("v", Message(IDS.new(), TIME, "3")),
    ]
    writer.store([mixed(messages, 4), DeadEnvelope(scattered([b"x", b"y"]), "broker-expired", "")])
    assert [(row.topic, row.body, row.reason) for row in contents.letters()] == [
        ("u", b"{", "json"), ("v", b"2", "conflict"),
        ("t", b"x", "broker-expired"), ("u", b"y", "broker-expired"),
    ]  # fmt: skip
    assert contents.counters() == contents.sums()
    assert [topic for topic, *_ in contents.counters()] == ["t", "v"]


def test_envelope_of_dead_messages_alone_makes_no_topic(writer, contents):
    writer.store([pack("t", [Message(IDS.new(), TIME, b"x", dead=("age", "too old"))], 1)])
    assert contents.bodies() == []
    assert [row.reason for row in contents.letters()] == ["age"]
    assert contents.counters() == []


def test_dead_letter_keeps_the_content_type_and_the_meta_of_its_message(writer, contents):
    message_id = IDS.new()
    writer.store([single("t", message_id, TIME, b"x")])
    writer.store([
        single("t", message_id, TIME, b"conflict", "a/b", WHOLE),
        Envelope("t", Kind.LINES, IDS.new(), TIME, 1, 1, b"undecodable", "", "a/b", WHOLE),
        DeadEnvelope(single("t", IDS.new(), TIME, b"given up", "a/b", WHOLE), "broker-expired", ""),
    ])  # fmt: skip
    assert [(row.content_type, row.meta) for row in contents.letters()] == [("a/b", WHOLE)] * 3
