"""The full-text index in PostgreSQL: what a search finds with it and without, and its keeping."""

import os
import random
import signal

import pytest
from own_sql import by_sql
from store_contents import many, one

from appliance.model.search_words import parse_words
from appliance.store.filters import MessageFilter
from appliance.store.postgresql import finder, index_check, search_table
from appliance.store.postgresql.connections import connect
from appliance.store.postgresql.hosts import Hosts
from appliance.store.postgresql.indexer import SearchIndexer
from appliance.store.rows import Span
from appliance.store.sql import search_range

SEARCHES = [
    "a b", '"a b"', '"b a"', "-a b", 'b -"a b"', "stra*", "STRASSE", "straße münchen", "t-6", "x_y",
    "🎉", "a -🎉", "-a", '"', "日本語", "42 -3.5", "c n", "nothing", "long*", "q" * 250,
    "'; DROP TABLE messages; --", "\\ 'a'", "a:* & b | !c",
]  # fmt: skip


@pytest.fixture
def engine():
    return "postgresql"


@pytest.fixture(autouse=True)
def time_enough(monkeypatch):
    """A search here comes to its end, however busy the machine is."""
    monkeypatch.setattr(search_range, "FIND_SECONDS", 60.0)


@pytest.fixture
def indexer(config, store):
    work = SearchIndexer(Hosts(config.database_url), is_on=True, rest=lambda _: False)
    yield work
    work.close()


@pytest.fixture
def fill(indexer):
    """Index until there is nothing left to do."""

    def fill():
        while not indexer.run():
            pass

    return fill


@pytest.fixture
def looked_at(monkeypatch):
    """The rows in which searches look for words."""
    seqs = []
    has = finder._has
    monkeypatch.setattr(finder, "_has", lambda words, row: seqs.append(row.seq) or has(words, row))
    return seqs


def found(store, words, limit=1000, span=None, **filters):
    wanted = MessageFilter(words=parse_words(words), **filters)
    return [row.seq for row in store.reader.find(wanted, span or Span(), limit).rows]


def test_the_index_finds_the_rows_that_have_the_words_and_looks_at_no_other(
    store, writer, fill, looked_at
):
    writer.store([many([b"needle" if n % 100 == 0 else b"hay" for n in range(1000)])])
    without = found(store, "needle")
    assert len(looked_at) == 1000
    fill()
    looked_at.clear()
    assert found(store, "needle") == without
    assert len(without) == len(looked_at) == 10


def test_searches_find_the_same_with_the_index_and_without(store, writer, fill):
    generator = random.Random(7)
    words = ["Straße", "münchen", "a", "b", "t-6", "x_y", "🎉", "Ünïcödé", "42", "-3.5", "C:\\n"]
    bodies = [" ".join(generator.choices(words, k=4)).encode() for _ in range(300)]
    bodies += [
        b'{"t": "stra\\u00dfe\\nm\\u00fcnchen \\"a\\" \\ud83c"}',
        b"\xff a",
        "日本語 テキスト".encode(),
        b"long" * 100 + b" " + b"q" * 250,
    ]
    writer.store([many(bodies), many([b"a", b"b a"], "other")])

    def everything():
        return {
            (text, limit, after, topics): found(
                store, text, limit, Span(after=after), topics=topics
            )
            for text in (*words, *SEARCHES)
            for limit, after in ((1000, None), (7, None), (7, 100))
            for topics in (None, ("other",), ("t", "o*"))
        }

    without = everything()
    fill()
    assert everything() == without


def test_a_row_with_more_words_than_the_index_takes_is_found(store, writer, fill):
    words = ["".join(chr(0x4E00 + int(digit)) for digit in f"{n:05}") for n in range(42_000)]
    writer.store([one(" ".join(words).encode()), one(b"other")])
    fill()
    assert found(store, words[41_000]) == [1]
    assert found(store, "other") == [2]


def test_newer_and_older_rows_than_those_of_the_index_are_found_too(store, writer, config):
    writer.store([many([b"word %d" % n for n in range(1500)])])
    one_chunk = {"is_on": True, "rest": lambda _: True}  # a run
    work = SearchIndexer(Hosts(config.database_url), **one_chunk)
    rounds = 0
    while work.run() == 0.0:
        rounds += 1
        writer.store([one(b"word later")])
        assert found(store, "later") == list(range(1500 + rounds, 1500, -1))
        assert found(store, "0") == [1]
        assert found(store, "word", 1600, Span(after=0)) == list(range(1, 1501 + rounds))
        if rounds > 5:
            break
    work.close()
    assert rounds > 2


def test_a_row_that_is_changed_is_found_as_it_is_and_one_that_is_deleted_is_not(
    store, writer, config, fill
):
    writer.store([many([b"first", b"second", b"third"])])
    fill()
    by_sql(config, "UPDATE messages SET body = 'changed' WHERE seq = 2")
    by_sql(config, "DELETE FROM messages WHERE seq = 3")
    for _ in range(2):
        assert (found(store, "second"), found(store, "changed")) == ([], [2])
        assert found(store, "third") == []
        fill()
    assert by_sql(config, "SELECT count(*) FROM search_changes") == [(0,)]
    assert by_sql(config, "SELECT seq FROM search_words ORDER BY seq") == [(1,), (2,)]


def test_words_of_a_message_that_was_deleted_while_it_was_indexed_do_not_stay(
    store, writer, config, indexer, fill
):
    writer.store([one(b"first"), one(b"second")])
    fill()
    by_sql(config, "INSERT INTO search_words VALUES (3, 'gone')")
    indexer._swept.append((1, 3))
    indexer.run()
    assert by_sql(config, "SELECT seq FROM search_words ORDER BY seq") == [(1,), (2,)]


def test_a_word_that_too_many_rows_have_is_looked_for_some_rows_at_a_time(
    store, writer, fill, monkeypatch
):
    writer.store([many([b"common %d" % n for n in range(300)])])
    fill()
    expected = found(store, "common 29*")
    ways = []

    def slow(self, connection, part, most):
        ways.append("first")
        connection.execute("SET statement_timeout = 5")
        connection.execute("SELECT pg_sleep(60)")

    of_next = search_table.WordLookup.of_next
    monkeypatch.setattr(search_table.WordLookup, "first", slow)
    monkeypatch.setattr(
        search_table.WordLookup, "of_next", lambda *each: ways.append("next") or of_next(*each)
    )
    assert found(store, "common 29*") == expected
    assert len(expected) == 11
    assert ways[:2] == ["first", "next"]
    assert ways.count("first") == 1


def test_an_index_that_is_switched_off_is_emptied_and_nothing_is_missed(
    store, writer, config, fill
):
    writer.store([one(b"word")])
    fill()
    off = SearchIndexer(Hosts(config.database_url), is_on=False, rest=lambda _: False)
    assert off.run() < 60  # the other one has it
    assert by_sql(config, "SELECT count(*) FROM search_words") == [(1,)]
    off.close()


def test_one_janitor_of_several_fills_the_index_and_the_next_one_takes_over(
    store, writer, config, indexer, fill
):
    writer.store([one(b"word")])
    fill()
    indexer.close()
    off = SearchIndexer(Hosts(config.database_url), is_on=False, rest=lambda _: False)
    assert off.run() == 60.0
    assert by_sql(config, "SELECT count(*) FROM search_words") == [(0,)]
    assert found(store, "word") == [1]
    off.close()
    fill()
    assert by_sql(config, "SELECT seq FROM search_words") == [(1,)]


def test_a_janitor_that_has_left_the_index_is_not_waited_for_by_the_next_one(
    store, writer, config, indexer, fill, monkeypatch
):
    writer.store([one(b"word")])
    fill()
    driver = indexer._connection.driver
    number, close = driver.info.backend_pid, driver.close
    with monkeypatch.context() as patch:  # the server is slow to see that the session has ended
        patch.setattr(driver, "close", lambda: os.kill(number, signal.SIGSTOP) or close())
        try:
            indexer.close()
            off = SearchIndexer(Hosts(config.database_url), is_on=False, rest=lambda _: False)
            assert off.run() == 60.0
        finally:
            os.kill(number, signal.SIGCONT)
    off.close()


def test_a_search_goes_on_with_a_connection_whose_time_is_its_own_again(store, writer):
    writer.store([one(b"word")])
    found(store, "word")
    with store.reader.reading() as connection:
        assert connection.execute("SHOW statement_timeout").fetchone() == ("10s",)


def test_the_tables_of_the_index_cost_an_insertion_nothing(config, store):
    link = connect(config.database_url, readonly=True)
    rows = link.execute(
        "SELECT tgname, tgtype & 4 FROM pg_trigger WHERE tgrelid = to_regclass('messages')"
    ).fetchall()
    link.close()
    assert rows
    assert [name for name, on_insert in rows if on_insert] == []


def verified(store):
    return store.verify(quick=True, alone=False, progress=lambda *_: None)


def shown(store):
    (check,) = [each for each in store.health.database() if each.check == "search index"]
    return check.text


def test_doctor_says_how_far_the_index_goes(store, writer, fill):
    assert shown(store) == "there is none"
    writer.store([many([b"a", b"b"])])
    fill()
    assert shown(store).endswith("MiB, complete")
    writer.store([one(b"c")])
    assert shown(store).endswith("MiB, 1 messages are not in it yet")


def test_verify_finds_what_the_index_lacks_and_repair_has_it_made_anew(
    store, writer, fill, config, monkeypatch
):
    monkeypatch.setattr(index_check, "_BETWEEN", 0.01)
    writer.store([many([b"a", b"b", b"c"])])
    fill()
    by_sql(config, "UPDATE messages SET body = 'changed' WHERE seq = 1")
    assert verified(store).notes == []
    assert store.repair(lambda _: False) == []
    by_sql(config, "DELETE FROM search_words WHERE seq = 2")
    assert found(store, "b") == []
    (note,) = verified(store).notes
    assert "messages that are not in it, and should be: 1" in note
    assert store.repair(lambda _: False) == ["to be made anew by the janitor: the search index"]
    assert found(store, "b") == [2]
    fill()
    assert verified(store).notes == []
