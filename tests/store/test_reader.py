"""The reader: pages, exports and sums of what a writer stored."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from store_contents import IDS, TIME, letter, many, one

from appliance.api import openapi
from appliance.errors import StoreError
from appliance.model.timestamps import timestamp
from appliance.model.wire import Message, pack
from appliance.store.rows import PAGE_BYTES, TopicChoice, Window


@pytest.fixture
def reader(store):
    return store.reader


def bodies(rows):
    return [row.body for row in rows]


def numbers(first, last):
    return [b"%d" % n for n in range(first, last)]


def test_a_page_is_newest_first_and_with_after_oldest_first(writer, reader):
    writer.store([many(numbers(0, 5)), one(b"other", topic="u")])
    assert bodies(reader.page(Window("t"), 10).rows) == numbers(0, 5)[::-1]
    assert bodies(reader.page(Window("t", after=0), 10).rows) == numbers(0, 5)
    assert reader.page(Window("none"), 10).rows == []


def test_a_page_says_whether_there_is_more(writer, reader):
    writer.store([many(numbers(0, 5))])
    assert reader.page(Window("t"), 4).more
    assert not reader.page(Window("t"), 5).more


def test_a_window_is_above_after_and_below_before(writer, reader):
    writer.store([many(numbers(0, 10))])
    seqs = [row.seq for row in reader.page(Window("t", after=0), 10).rows]
    window = Window("t", after=seqs[2], before=seqs[6])
    assert bodies(reader.page(window, 10).rows) == numbers(3, 6)


def test_a_page_is_bounded_in_bytes_and_has_one_row_at_least(writer, reader):
    writer.store([many([b"x" * 1000] * 10), one(b"y" * (PAGE_BYTES + 1))])
    assert len(reader.page(Window("t", after=0), 10, max_bytes=3500).rows) == 3
    assert len(reader.page(Window("t"), 10).rows) == 1


def test_pages_in_turn_hold_every_message_once_while_more_come(writer, reader):
    writer.store([many(numbers(0, 100))])
    found, after = [], 0
    for n in range(100, 200):
        page = reader.page(Window("t", after=after), 7)
        found += bodies(page.rows)
        after = page.rows[-1].seq if page.rows else after
        writer.store([one(b"%d" % n), one(b"x", topic="u")])
    while rows := reader.page(Window("t", after=after), 7).rows:
        found += bodies(rows)
        after = rows[-1].seq
    assert found == numbers(0, 200)


def test_since_is_exact_though_times_are_out_of_order(writer, reader):
    start = datetime(2026, 1, 31, tzinfo=UTC)
    times = [timestamp((start + timedelta(minutes=n ^ 1)).timestamp()) for n in range(300)]
    writer.store([pack("t", [Message(IDS.new(), time, b"x") for time in times], 300)])
    for minute in (0, 1, 150, 299):
        since = timestamp((start + timedelta(minutes=minute)).timestamp())
        rows = reader.page(Window("t", after=0, since=since), 1000).rows
        assert [row.received_at for row in rows] == [time for time in times if time >= since]


def test_until_is_exact_though_times_are_out_of_order(writer, reader):
    start = datetime(2026, 1, 31, tzinfo=UTC)
    times = [timestamp((start + timedelta(minutes=n ^ 1)).timestamp()) for n in range(300)]
    writer.store([pack("t", [Message(IDS.new(), time, b"x") for time in times], 300)])
    for first, last in ((0, 0), (0, 1), (0, 150), (149, 151), (150, 299), (0, 10_000), (5, 4)):
        since, until = (
            timestamp((start + timedelta(minutes=minute)).timestamp()) for minute in (first, last)
        )
        wanted = [time for time in times if since <= time < until]
        for window in (Window("t", until=until), Window("t", after=0, since=since, until=until)):
            rows = reader.page(window, 1000).rows
            found = sorted(row.received_at for row in rows if row.received_at >= since)
            assert found == sorted(wanted)


def test_until_in_an_empty_store_is_an_empty_page(reader):
    assert reader.page(Window("t", until="2026-01-31T00:00:00.000Z"), 10).rows == []
    assert reader.page(Window("t", until="9999-12-31T23:59:59.000Z"), 10).rows == []


def test_pieces_are_short_lists_of_every_message(writer, reader):
    for _ in range(10):
        writer.store([many([b"x" * 300] * 2000)])
    sizes = [sum(len(row.body) for row in rows) for rows in reader.pieces(Window("t"))]
    assert sum(sizes) == 6_000_000
    assert min(sizes[:-1]) > 200_000
    assert max(sizes) < 2**20


def test_pieces_of_a_topic_that_grows_come_to_an_end(writer, reader):
    writer.store([many([b"x"] * 5000)])
    count = 0
    for rows in reader.pieces(Window("t", after=0)):
        count += len(rows)
        writer.store([many([b"y"] * len(rows))])
    assert count == 5000


def test_pieces_stop_at_their_limit(writer, reader):
    writer.store([many([b"x"] * 5000)])
    for limit in (1, 2000, 2001, 4999):
        assert sum(map(len, reader.pieces(Window("t"), limit))) == limit


def test_topics_are_listed_by_name_from_a_place_on(writer, reader):
    names = [f"topic-{n:03}" for n in range(25)]
    writer.store([one(b"123", topic=name) for name in names])
    assert [topic.topic for topic in reader.topics(limit=100)] == names
    assert [topic.topic for topic in reader.topics(after=names[9], limit=3)] == names[10:13]
    assert tuple(reader.topics(limit=1)[0]) == (names[0], 1, 3, TIME, TIME)


def test_has_topic_tells_a_topic_that_was_stored(writer, reader):
    writer.store([one(topic="t")])
    assert reader.has_topic("t")
    assert not reader.has_topic("u")


@pytest.mark.parametrize("body", [b"x", b"\0", bytes(range(256)), "\u00e4\U0001f980".encode()])
def test_a_message_is_found_by_its_id_with_its_bytes(writer, reader, body):
    envelope = one(body)
    writer.store([envelope])
    row = reader.message(envelope.id)
    assert (row.id, row.topic, row.received_at, row.body) == (envelope.id, "t", TIME, body)
    assert reader.message(IDS.new()) is None


def test_totals_count_messages_bytes_topics_and_dead_letters(writer, reader):
    empty = reader.totals()
    assert (empty.messages, empty.bytes, empty.topics, empty.last_at) == (0, 0, 0, None)
    later = timestamp(2e9)
    writer.store([one(b"123"), one(b"45", topic="u", time=later), letter()])
    totals = reader.totals()
    assert (totals.messages, totals.bytes, totals.topics, totals.dead_letters) == (2, 5, 2, 1)
    assert totals.last_at == later
    assert totals.database_bytes > 0


def test_details_and_the_engine_are_for_people(reader, engine):
    assert reader.engine.name == engine
    assert reader.engine.version
    assert all(isinstance(value, int | str) for value in reader.details().values())


def test_many_threads_read_at_once_beside_a_writer(writer, reader):
    writer.store([many([b"x" * 100] * 2000)])
    counts = []

    def read():
        counts.extend(len(reader.page(Window("t"), 500).rows) for _ in range(20))

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        writer.store([one(topic="u")])
    for thread in threads:
        thread.join()
    assert counts == [500] * 160


def test_a_database_that_is_not_made_yet_is_read_once_it_is(new_store):
    reader = new_store.reader
    for read in (reader.check, reader.totals, reader.topics):
        with pytest.raises(StoreError):
            read()
    new_store.migrate()
    reader.check()
    assert reader.topics() == []


@pytest.mark.parametrize("sort", ["topic", "messages", "bytes", "last"])
@pytest.mark.parametrize("descending", [False, True])
def test_topics_come_in_the_order_that_is_asked_for_and_go_on_where_they_ended(
    store, writer, sort, descending
):
    writer.store([one(b"x" * (n % 4 + 1), f"t{n % 7}") for n in range(40)])
    key = {"topic": 0, "messages": 1, "bytes": 2, "last": 4}[sort]
    every = store.reader.topic_list(TopicChoice(sort=sort, descending=descending), 100)
    assert [each[key] for each in every] == sorted((t[key] for t in every), reverse=descending)
    seen = []
    after = None
    while page := store.reader.topic_list(
        TopicChoice(sort=sort, descending=descending, after=after), 2
    ):
        seen += page
        after = page[-1][key], page[-1].topic
    assert seen == every
    assert len(every) == 7


def test_topics_are_found_by_a_part_of_their_name_and_by_patterns(store, writer):
    writer.store([one(b"x", name) for name in ("a.b", "a_b", "c")])
    names = [t.topic for t in store.reader.topic_list(TopicChoice(part="_"), 9)]
    assert names == ["a_b"]
    assert store.reader.topic_list(TopicChoice(part="%"), 9) == []
    names = [t.topic for t in store.reader.topic_list(TopicChoice(patterns=("a*",)), 9)]
    assert names == ["a.b", "a_b"]


def test_details_of_the_engine_are_in_the_description_of_the_interface(store, config):
    described = openapi.describe(config, "1")["components"]["schemas"]["Status"]["properties"]
    assert store.reader.details().keys() <= described["store"]["properties"].keys()
