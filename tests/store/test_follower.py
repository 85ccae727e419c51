"""Following: what lies behind a place, and that nothing appears behind a reader's back."""

import threading
import time

import pytest
from own_sql import by_sql
from store_contents import letter, many, one

from appliance.errors import StoreError
from appliance.model import timestamps
from appliance.store.rows import Choice, Followed, Window

ANY = Followed()


@pytest.fixture
def follower(store):
    return store.follower


def numbers(first, last):
    return [b"%d" % n for n in range(first, last)]


def bodies(part):
    return [row.body for row in part.rows]


def test_the_end_is_nothing_at_first_and_grows_with_each_message(writer, follower):
    assert follower.end() == 0
    writer.store([one()])
    first = follower.end()
    writer.store([one(), many(numbers(0, 5))])
    assert follower.end() == first + 6


def test_the_end_stays_where_it_was_when_the_newest_messages_are_deleted(writer, follower, config):
    writer.store([many(numbers(0, 5))])
    end = follower.end()
    by_sql(config, "DELETE FROM messages")
    assert follower.end() == end
    writer.store([one(b"new")])
    assert bodies(follower.part(ANY, end, follower.end())) == [b"new"]


def test_there_is_no_end_without_a_database(new_store):
    with pytest.raises(StoreError):
        new_store.follower.end()


def test_a_part_is_oldest_first_and_says_where_it_ends(writer, follower):
    writer.store([many(numbers(0, 1200))])
    found, place, end = [], 0, follower.end()
    while place < end:
        part = follower.part(ANY, place, end)
        assert len(part.rows) <= 500
        found += bodies(part)
        place = part.end
    assert found == numbers(0, 1200)


def test_a_part_is_bounded_in_bytes_and_has_one_message_at_least(writer, follower):
    writer.store([many([b"x" * 50_000] * 10), one(b"y" * 2_000_000)])
    end = follower.end()
    assert len(follower.part(ANY, 0, end).rows) == 2
    assert len(follower.part(ANY, end - 1, end).rows) == 1


def test_a_part_is_of_a_topic_or_of_those_that_match_every_group(writer, follower):
    writer.store([one(b"a", topic="a.1"), one(b"b", topic="b.1"), one(b"c", topic="a.2")])
    end = follower.end()
    assert bodies(follower.part(Followed("b.1"), 0, end)) == [b"b"]
    groups = Followed(patterns=(("a.*", "b.*"), ("*.1",)))
    assert bodies(follower.part(groups, 0, end)) == [b"a", b"b"]
    assert [groups.takes(topic) for topic in ("a.1", "b.1", "a.2")] == [True, True, False]
    assert Followed("a.1").takes("a.1")
    assert not Followed("a.1").takes("a.2")


def test_a_part_that_finds_nothing_near_goes_on_behind_it(writer, follower):
    for _ in range(3):
        writer.store([many([b"no"] * 9_000, topic="noise")])
    writer.store([one(b"far")])
    rare, place, end, reads = Followed(patterns=(("t",),)), 0, follower.end(), 0
    found = []
    while place < end:
        part = follower.part(rare, place, end)
        found, place, reads = found + bodies(part), part.end, reads + 1
    assert (found, reads) == ([b"far"], 2)


def test_a_gap_of_any_length_is_one_read(writer, follower, config):
    writer.store([one(b"first")])
    by_sql(config, {"sqlite": "UPDATE sqlite_sequence SET seq = 1000000000 WHERE name = 'messages'",
                    "postgresql": "UPDATE shards SET last_seq = 1000000000"})  # fmt: skip
    writer.store([one(b"second")])
    end = follower.end()
    first = follower.part(ANY, 0, end)
    second = follower.part(ANY, first.end, end)
    assert (bodies(first), bodies(second), second.end) == ([b"first"], [b"second"], end)
    assert follower.glance(ANY, first.end, end, 5).end == end


def test_a_part_since_a_time_leaves_out_what_is_older(writer, follower):
    now = time.time()
    for seconds in (3600, 60, 10):
        at = timestamps.timestamp(now - seconds)
        writer.store([one(b"%d" % seconds, time=at)])
    since = timestamps.timestamp(now - 100)
    place = follower.begin(since)
    part = follower.part(Followed(since=since), place, follower.end())
    assert bodies(part) == [b"60", b"10"]


def test_a_glance_counts_all_and_shows_the_newest(writer, follower):
    writer.store([many(numbers(0, 100)), many(numbers(0, 7), topic="u")])
    glance = follower.glance(ANY, 0, follower.end(), 3)
    assert glance.counts == {"t": 100, "u": 7}
    assert [each.start for each in glance.newest] == [b"6", b"5", b"4"]
    assert follower.glance(Followed("t"), 0, follower.end(), 3).counts == {"t": 100}
    assert follower.glance(Followed("none"), 0, follower.end(), 3).newest == []


def test_a_glance_shows_kinds_sizes_and_the_first_characters(writer, follower):
    writer.store(
        [many([b"{}", b"{", "ü".encode() * 300, b"\0" * 300, b"[" * 70_000, b"x" * 70_000])]
    )
    shown = follower.glance(ANY, 0, follower.end(), 9).newest[::-1]
    assert [each.kind for each in shown] == ["json", "text", "text", "binary", "json", "text"]
    assert [each.size for each in shown] == [2, 1, 600, 300, 70_000, 70_000]
    assert [len(each.start) for each in shown] == [2, 1, 400, 200, 200, 200]


def test_a_glance_reads_no_more_than_some_megabytes_of_bodies(writer, follower):
    writer.store([many([b"x" * 1_000_000] * 8)])
    glance = follower.glance(ANY, 0, follower.end(), 50)
    assert (glance.counts, len(glance.newest)) == ({"t": 8}, 4)


def test_the_topics_behind_a_place_are_listed_unless_they_are_many_rows(writer, follower):
    writer.store([one(), one(topic="u"), one(topic="u")])
    end = follower.end()
    assert follower.topics(0, end) == {"t", "u"}
    assert follower.topics(1, end) == {"u"}
    assert follower.topics(0, 100_000) is None


class Busy:
    """Changes the store in several threads until the block ends, which raises what they raised."""

    def __init__(self, store, config):
        self._store = store
        self._config = config
        self._stop = threading.Event()
        self._errors = []

    def __enter__(self):
        jobs = [lambda: self._write("a"), lambda: self._write("b"), self._delete]
        self._threads = [threading.Thread(target=self._run, args=(job,)) for job in jobs]
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert self._errors == []

    def _run(self, job):
        try:
            job()
        except Exception as error:  # noqa: BLE001
            self._errors.append(error)

    def _write(self, name):
        """Store batches, repeated messages and dead letters, as a worker does."""
        writer = self._store.open_writer()
        while not self._stop.wait(0.001):  # a pause, as a worker's: SQLite's lock has no queue
            same = one(b"same", topic=name)
            writer.store([many([b"x", b"y"], topic=name), same, same, letter()])
        writer.close()

    def _delete(self):
        """Delete the newest messages again and again, and letters as a redrive does."""
        newest = "DELETE FROM messages WHERE seq > (SELECT max(seq) - 2 FROM messages)"
        while not self._stop.wait(0.002):
            by_sql(self._config, newest)
            for row in self._store.dead_letters.page(Choice(), 5).rows:
                self._store.dead_letters.remove(row)


def test_no_message_appears_behind_a_reader_s_back(store, config):
    """Two workers at once, letters that go and come, deletions of the newest: the order holds."""
    follower, seen, place = store.follower, {}, 0
    with Busy(store, config):
        until = time.monotonic() + 2
        while time.monotonic() < until or len(seen) < 200:
            end = follower.end()
            assert end >= place
            while place < end:
                part = follower.part(ANY, place, end)
                seen |= {row.seq: row.id for row in part.rows}
                place = part.end
    # Whatever is stored up to the place was seen, under the same number.
    stored = {}
    for topic in ("a", "b"):
        for piece in store.reader.pieces(Window(topic, after=0)):
            stored |= {row.seq: row.id for row in piece if row.seq <= place}
    assert len(stored) > 20
    assert stored.items() <= seen.items()
