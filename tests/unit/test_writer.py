"""The writer, on a real database: each message once, whatever comes how often."""

import random

import orjson
import pytest

from appliance.errors import SchemaError, StoreError, StoreFullError
from appliance.model.contents import DeadLetter
from appliance.model.ids import IdSource, ids_from, key_prefix
from appliance.model.timestamps import timestamp
from appliance.model.wire import Envelope, Kind, as_text, batch, pack, single, unpack
from appliance.store.sqlite.connection import connect
from appliance.store.sqlite.migrations import migrate
from appliance.store.sqlite.writer import Writer

TIME = "2026-01-02T03:04:05.678Z"
IDS = IdSource()


@pytest.fixture
def path(tmp_path):
    migrate(tmp_path / "appliance.db")
    return tmp_path / "appliance.db"


@pytest.fixture
def writer(path):
    made = Writer(path)
    yield made
    made.close()


@pytest.fixture
def ask(path):
    link = connect(path, readonly=True)
    yield lambda sql, *values: link.execute(sql, values).fetchall()
    link.close()


def one(body, topic="t", time=TIME):
    return single(topic, IDS.new(), time, body)


def many(bodies, topic="t", time=TIME):
    return pack(topic, [(IDS.new(), time, body) for body in bodies], sum(map(len, bodies)))


def lines(bodies, topic="t", time=TIME):
    return batch(topic, IDS.prefix(), time, bodies)


def bodies_in(ask):
    return [
        row[0].encode() if isinstance(row[0], str) else row[0]
        for row in ask("SELECT body FROM messages ORDER BY seq")
    ]


def true_sums(ask):
    return ask(
        "SELECT topic, count(*), sum(octet_length(body)), min(received_at), max(received_at) "
        "FROM messages GROUP BY topic ORDER BY topic"
    )


def kept_sums(ask):
    return ask("SELECT topic, messages, bytes, first_at, last_at FROM topics ORDER BY topic")


def dead(ask):
    return ask("SELECT topic, id, body, reason FROM dead_letters ORDER BY seq")


def test_every_kind_is_stored_in_the_order_in_which_it_came(writer, ask):
    writer.store([one(b"1"), lines([b"2", b"3"]), many([b"4", b"5"]), one(b"6")])
    writer.store([lines([b"7"]), one(b"8"), one(b"9")])
    assert bodies_in(ask) == [b"%d" % n for n in range(1, 10)]
    assert [row[0] for row in ask("SELECT seq FROM messages ORDER BY seq")] == list(range(1, 10))


@pytest.mark.parametrize("envelope", [one(b"a"), many([b"a", b"b\0"]), lines([b"a", b"b"])])
def test_a_redelivery_stores_nothing_again(writer, ask, envelope):
    writer.store([envelope])
    once = ask("SELECT * FROM messages")
    writer.store([envelope])  # after the commit
    writer.store([envelope, envelope, one(b"new"), envelope])  # amid others, in one transaction
    assert ask("SELECT * FROM messages")[: len(once)] == once
    assert len(ask("SELECT * FROM messages")) == len(once) + 1
    assert dead(ask) == []
    assert kept_sums(ask) == true_sums(ask)


def test_the_first_delivery_twice_in_one_transaction_is_stored_once(writer, ask):
    envelopes = [one(b"a"), many([b"b", b"c"]), lines([b"d", b"e"])]
    writer.store([*envelopes, *envelopes])
    assert bodies_in(ask) == [b"a", b"b", b"c", b"d", b"e"]
    assert dead(ask) == []
    assert kept_sums(ask) == true_sums(ask)


def test_a_retry_with_another_time_is_the_same_message(writer, ask):
    prefix = key_prefix("t", "key")
    writer.store([single("t", prefix + "00000000", TIME, b"x")])
    writer.store([single("t", prefix + "00000000", timestamp(2e9), b"x")])
    assert ask("SELECT received_at FROM messages") == [(TIME,)]
    assert dead(ask) == []


def test_an_id_that_came_with_another_body_is_a_dead_letter_once(writer, ask):
    message_id = key_prefix("t", "key") + "00000000"
    writer.store([single("t", message_id, TIME, b"first")])
    other = single("t", message_id, TIME, b"other")
    writer.store([one(b"before"), other, one(b"after")])
    writer.store([other])  # redelivered
    assert bodies_in(ask) == [b"first", b"before", b"after"]
    assert dead(ask) == [("t", message_id, b"other", "conflict")]
    assert kept_sums(ask) == true_sums(ask)


def test_a_conflict_within_one_transaction_is_found_too(writer, ask):
    message_id = key_prefix("t", "key") + "00000000"
    writer.store([single("t", message_id, TIME, body) for body in (b"first", b"\xff", b"first")])
    assert bodies_in(ask) == [b"first"]
    assert dead(ask) == [("t", message_id, b"\xff", "conflict")]


def test_the_same_bytes_as_text_and_as_bytes_do_not_conflict(writer, ask):
    """`x` may come alone in one envelope and, with the same key, in a pack in another."""
    message_id = key_prefix("t", "key") + "00000000"
    for body in (b"x", b"\xff\0"):
        writer.store([single("t", message_id, TIME, body)])
        writer.store([pack("t", [(message_id, TIME, body)], len(body))])
        message_id = key_prefix("t", "another key") + "00000000"
    assert dead(ask) == []


def test_a_batch_that_partly_conflicts_keeps_every_message_somewhere(writer, ask):
    prefix = key_prefix("t", "key")
    writer.store([batch("t", prefix, TIME, [b"a", b"b"])])
    writer.store([batch("t", prefix, TIME, [b"a", b"B", b"c"])])
    assert bodies_in(ask) == [b"a", b"b", b"c"]
    assert dead(ask) == [("t", prefix + "00000001", b"B", "conflict")]
    assert kept_sums(ask) == true_sums(ask)


def garbage(kind, body, count=1, size=1):
    return Envelope("t", kind, IDS.new(), TIME, count, size, body)


GARBAGE = [
    pytest.param(garbage(kind, body, count), id=f"{kind.name}-{body[:20]!r}-{count}")
    for kind in (Kind.PACK, Kind.LINES)
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
def test_what_cannot_be_decoded_is_a_dead_letter_and_the_rest_is_stored(writer, ask, bad):
    for _ in range(2):  # the second time it is a redelivery
        writer.store([one(b"before"), bad, lines([b"after 1", b"after 2"])])
    assert bodies_in(ask) == [b"before", b"after 1", b"after 2"] * 2
    assert dead(ask) == [("t", bad.id, bad.body, "undecodable")]
    assert kept_sums(ask) == true_sums(ask)


def test_json_that_only_sqlite_reads_does_not_stop_the_worker(writer, ask):
    odd = garbage(Kind.LINES, b"['a' /* comment */]")
    writer.store([odd])
    writer.store([odd, one(b"next")])
    assert b"next" in bodies_in(ask)
    twice = one(b"twice")
    writer.store([garbage(Kind.LINES, b"['b']"), twice, twice])
    assert kept_sums(ask) == true_sums(ask)


def test_a_dead_letter_is_kept_once_and_byte_by_byte(writer, ask):
    letter = DeadLetter("no topic/at all", "any id", TIME, bytes(range(256)), "bad-topic", "why")
    writer.store([letter])
    writer.store([letter, one(b"x"), letter])
    assert dead(ask) == [("no topic/at all", "any id", bytes(range(256)), "bad-topic")]
    assert ask("SELECT typeof(body), error FROM dead_letters") == [("blob", "why")]


@pytest.mark.parametrize("seed", range(5))
def test_the_topics_sums_are_right_whatever_comes_how_often(writer, ask, seed):
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
    assert kept_sums(ask) == true_sums(ask)
    total = sum(e.count for e in {e.id: e for e in seen}.values())
    assert ask("SELECT count(*) FROM messages") == [(total,)]


def test_text_is_text_and_the_rest_is_blob(writer, ask):
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
    writer.store([one(b) for b in bodies])
    writer.store([many(bodies)])
    writer.store([lines(bodies[:6])])
    kinds = ["text"] * 6 + ["blob"] * 3
    expected = kinds + kinds + kinds[:6]
    assert [r[0] for r in ask("SELECT typeof(body) FROM messages ORDER BY seq")] == expected
    assert bodies_in(ask) == [*bodies, *bodies, *bodies[:6]]


ALPHABET = (
    "".join(map(chr, range(1, 128)))
    + '\u0080\u009f\u00ff\u2028\u2029\ufeff\ufffd\uffff\U0001f980\U0010ffff\u0301\\\\\\""u0d8'
)


@pytest.mark.parametrize("seed", range(30))
def test_what_sqlite_reads_of_a_batch_is_what_we_wrote(writer, ask, seed):
    source = random.Random(seed)
    texts = [
        "".join(source.choices(ALPHABET, k=source.randint(1, 80))).encode() for _ in range(300)
    ]
    envelope = lines(texts)
    assert envelope.kind is Kind.LINES
    writer.store([envelope])
    assert ask("SELECT id, received_at, body FROM messages ORDER BY seq") == [
        (m.id, m.received_at, m.body) for m in unpack(envelope)
    ]
    assert bodies_in(ask) == texts
    assert ask("SELECT count(*) FROM messages WHERE typeof(body) <> 'text'") == [(0,)]
    assert kept_sums(ask) == true_sums(ask)


def test_literal_escapes_in_text_stay_what_they_are(writer, ask):
    texts = [rb"\u0000", rb"\ud800", rb"\\u0000", b"\\", b'"', rb"\n"]
    writer.store([lines(texts)])
    assert bodies_in(ask) == texts


def test_a_long_batch_counts_its_ids_up(writer, ask):
    envelope = lines([b"x"] * 20_000)
    writer.store([envelope])
    assert [r[0] for r in ask("SELECT id FROM messages ORDER BY seq")] == ids_from(
        envelope.id, 20_000
    )


def test_a_transaction_that_fails_leaves_nothing(writer, ask, path):
    writer.store([one(b"old")])
    before = true_sums(ask)
    link = connect(path, readonly=False)
    link.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON messages WHEN new.body = 'bad' "
        "BEGIN SELECT raise(FAIL, 'refused'); END"
    )
    letter = DeadLetter("t", "id", TIME, b"x", "bad-topic", "")
    group = [letter, one(b"a"), lines([b"b", b"c"]), many([b"d", b"bad", b"e"])]
    with pytest.raises(StoreError, match="refused"):
        writer.store(group)
    writer.close()
    assert (true_sums(ask), kept_sums(ask), dead(ask)) == (before, before, [])
    link.execute("DROP TRIGGER refuse")
    link.close()
    fresh = Writer(path)
    fresh.store(group)
    fresh.close()
    assert bodies_in(ask) == [b"old", b"a", b"b", b"c", b"d", b"bad", b"e"]
    assert len(dead(ask)) == 1


@pytest.mark.parametrize("make", [lambda b: many([b]), one, lambda b: lines([b, b])])
def test_a_full_store_says_so_and_leaves_nothing(writer, ask, make):
    writer.store([one(b"old")])
    pages = writer._connection.execute("PRAGMA page_count").fetchone()[0]
    writer._connection.execute(f"PRAGMA max_page_count = {pages + 10}")
    with pytest.raises(StoreFullError, match="make room"):
        writer.store([one(b"small"), make(b"x" * 500_000)])
    writer.close()
    assert bodies_in(ask) == [b"old"]


def test_a_lock_held_by_another_is_a_store_error(writer, path, ask):
    writer._connection.execute("PRAGMA busy_timeout = 100")
    other = connect(path, readonly=False)  # another SQLite in one process would undo locks
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        writer.store([one(b"x")])
    other.execute("ROLLBACK")
    other.close()
    writer.close()
    assert bodies_in(ask) == []


def test_a_writer_wants_the_schema(tmp_path):
    with pytest.raises(StoreError):
        Writer(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "empty.db").touch()
    with pytest.raises(SchemaError, match="run appliance migrate"):
        Writer(tmp_path / "empty.db")


def test_what_a_forger_counts_does_not_stop_the_worker(writer, ask):
    body = orjson.dumps(["a"])
    writer.store([Envelope("t", Kind.LINES, IDS.new(), TIME, 2, 1, body), one(b"next")])
    assert bodies_in(ask) == [b"next"]
    assert kept_sums(ask) == true_sums(ask)


def test_as_text_agrees_with_what_is_read_back(writer, ask):
    source = random.Random(7)
    bodies = [source.randbytes(source.randint(1, 6)) for _ in range(2_000)]
    writer.store([many(bodies)])
    assert [r[0] for r in ask("SELECT body FROM messages ORDER BY seq")] == list(
        map(as_text, bodies)
    )
