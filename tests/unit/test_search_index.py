"""The full-text index of a SQLite database: what a search finds with it, and without it."""

import random
import shutil
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_contents import many, one

from appliance import config as configuration
from appliance.errors import StoreError
from appliance.model.search_words import SearchWords, fold, parse_words, plain_words
from appliance.store import open_store
from appliance.store.filters import MessageFilter
from appliance.store.rows import Span
from appliance.store.sqlite import finder, index_check, indexer, paths, search_index
from appliance.store.sqlite.database import connect, sqlite3
from appliance.store.sqlite.indexer import Indexer
from appliance.store.sqlite.restore import prepared


@pytest.fixture
def store(tmp_path):
    store = open_store(configuration.load({"APPLIANCE_DATA": str(tmp_path / "data")}))
    store.migrate()
    yield store
    store.reader.close()


@pytest.fixture
def writer(store):
    writer = store.open_writer()
    yield writer
    writer.close()


@pytest.fixture
def index(store):
    return paths.search_index(store.path)


@pytest.fixture
def fill(store):
    """Index until there is nothing left to do."""

    def fill(**changes):
        options = {"is_on": True, "floor": 0, "rest": lambda _: False} | changes
        work = Indexer(store.path, **options)
        for _ in range(1000):
            if work.run():
                break
        work._close()
        return work

    return fill


@pytest.fixture
def looked_at(monkeypatch):
    """The rows that searches look at one by one."""
    seqs = []
    row_of = finder._Search._row

    def look(search, candidate):
        seqs.append(candidate.seq)
        return row_of(search, candidate)

    monkeypatch.setattr(finder._Search, "_row", look)
    return seqs


def sql(store, *statements):
    connection = sqlite3.connect(store.path, isolation_level=None)
    try:
        for statement in statements:
            connection.execute(statement)
    finally:
        connection.close()


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


def test_the_index_holds_the_newest_first_and_the_oldest_at_last(store, writer):
    writer.store([many([b"word %d" % n for n in range(2000)])])
    work = Indexer(store.path, is_on=True, floor=0, rest=lambda _: True)  # one chunk a run
    lows = []
    while not lows or lows[-1] != search_index.EVERYTHING:
        assert work.run() == 0.0
        lows.append(work._index.progress().low)
        writer.store([one(b"word later")])
        assert found(store, "later") == list(range(2000 + len(lows), 2000, -1))
        assert found(store, "0") == [1]
    work._close()
    assert lows == sorted(lows, reverse=True)
    assert len(set(lows)) > 3


def test_the_index_narrows_down_to_one_topic(store, writer, fill, looked_at):
    writer.store([many([b"word"] * 500, "a.b-c"), one(b"word", "a.b")])
    fill()
    looked_at.clear()
    assert found(store, "word", topics=("a.b",)) == [501]
    assert found(store, "word", topics=("a.b",), patterns=("x",)) == []
    assert found(store, "word", topics=("b.c",)) == []
    assert len(found(store, "word", topics=("a.b-c",))) == 500
    assert len(found(store, "word", patterns=("a.b-*",), limit=9)) == 9


def test_searches_find_the_same_with_the_index_and_without(store, writer, fill):
    generator = random.Random(7)
    words = ["Straße", "münchen", "a", "b", "t-6", "x_y", "🎉", "Ünïcödé", "42", "-3.5", "C:\\n"]
    bodies = [" ".join(generator.choices(words, k=4)).encode() for _ in range(400)]
    bodies += [
        b'{"t": "stra\\u00dfe\\nm\\u00fcnchen \\"a\\" \\ud83c"}',
        b"\xff a",
        "日本語 テキスト".encode(),
    ]
    writer.store([many(bodies)])
    searches = [
        *words,
        "a b",
        '"a b"',
        "a -b",
        "-a",
        "str*",
        "unicode",
        "strasse",
        '"6 a"',
        "日本語",
    ]
    searches += ["日本*", "n", "42 -3.5", "-🎉 a", 'a "', "a 🎉", "xyz", "İ", "ﬁ"]
    before = {text: found(store, text) for text in searches}
    fill()
    after = {text: found(store, text) for text in searches}
    assert after == before
    assert before["straße"] if "straße" in before else before["Straße"]
    forward = {text: found(store, text, span=Span(after=0)) for text in searches}
    assert forward == {text: seqs[::-1] for text, seqs in before.items()}


@given(st.lists(st.text(max_size=12), min_size=1, max_size=20))
@settings(max_examples=200, deadline=None)
def test_every_word_is_in_the_index_as_a_search_asks_for_it(texts):
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE words USING fts5 (topic, body, tokenize = 'ascii')")
    bodies = [(n, plain_words(text)) for n, text in enumerate(texts)]
    connection.executemany("INSERT INTO words (rowid, body) VALUES (?, ?)", bodies)
    for text in texts:
        words = parse_words(text)
        if words and (query := search_index.match_text(words, None)):
            rows = connection.execute("SELECT rowid FROM words WHERE words MATCH ?", (query,))
            # Terms without a letter or digit are looked for in the messages themselves.
            terms = tuple(term for term in words.terms if term.words)
            wanted = [n for n, each in enumerate(texts) if SearchWords(terms).matches(each)]
            assert sorted(row for (row,) in rows) == wanted
    connection.close()


def test_a_row_that_is_changed_or_deleted_is_found_as_it_is(store, writer, fill, looked_at):
    writer.store([many([b"old %d" % n for n in range(10)])])
    fill()
    sql(
        store,
        "UPDATE messages SET body = 'new' WHERE seq IN (3, 5)",
        "DELETE FROM messages WHERE seq = 7",
        "UPDATE messages SET topic = 'u' WHERE seq = 8",
    )
    for _ in range(2):  # before the index knows, and after
        assert found(store, "new") == [5, 3]
        assert found(store, "old") == [10, 9, 8, 6, 4, 2, 1]
        assert found(store, "old", topics=("u",)) == [8]
        assert found(store, "old", span=Span(after=5)) == [6, 8, 9, 10]
        fill()
    looked_at.clear()
    assert found(store, "new") == [5, 3]
    assert len(looked_at) == 2
    connection = connect(store.path, readonly=True)
    assert connection.execute("SELECT count(*) FROM search_changes").fetchone() == (0,)
    assert index_check.compare(store.path, connection) == ""
    connection.close()


def test_many_changed_rows_are_read_without_the_index(store, writer, fill, monkeypatch):
    writer.store([many([b"old"] * 50)])
    fill()
    monkeypatch.setattr(search_index, "_MOST_CHANGED", 10)
    sql(store, "UPDATE messages SET body = 'new'")
    assert len(found(store, "new")) == 50
    assert found(store, "old") == []
    fill()
    assert len(found(store, "new")) == 50


def test_a_restored_backup_is_searched_without_the_index_of_what_it_replaced(
    store, writer, fill, tmp_path
):
    writer.store([one(b"first")])
    backup = tmp_path / "backup.db"
    store.backup.make(backup, lambda *_: True)
    writer.store([one(b"gone")])
    fill()
    writer.close()
    store.reader.close()
    with prepared(backup, store.path, 0, lambda *_: True) as copy:
        copy.put_in_place()
    new = store.open_writer()
    new.store([one(b"other"), one(b"words")])
    new.close()
    for _ in range(2):
        assert found(store, "gone") == []
        assert len(found(store, "other")) == 1
        assert found(store, "first") == [1]
        fill()


def test_a_copy_by_hand_that_went_on_differently_gets_an_index_of_its_own(
    store, writer, fill, tmp_path
):
    writer.store([one(b"first")])
    copy = tmp_path / "copy.db"
    store.backup.make(copy, lambda *_: True)
    writer.store([one(b"gone")])
    fill()
    writer.close()
    store.reader.close()
    for file in (store.path, paths.wal(store.path), paths.shared_memory(store.path)):
        file.unlink(missing_ok=True)
    shutil.copy(copy, store.path)
    new = store.open_writer()
    new.store([one(b"other")])
    new.close()
    for _ in range(2):
        assert found(store, "other") == [2]
        assert found(store, "gone") == []
        fill()


@pytest.mark.parametrize("damage", ["cut", "zeros", "text", "table"])
def test_a_damaged_index_is_made_anew_and_searches_go_on_meanwhile(
    store, writer, fill, index, damage
):
    writer.store([many([b"word %d" % n for n in range(3000)])])
    fill()
    store.reader.close()
    data = bytearray(index.read_bytes())
    if damage == "cut":
        index.write_bytes(data[: len(data) // 3])
    elif damage == "zeros":
        data[8192:] = bytes(len(data) - 8192)
        index.write_bytes(data)
    elif damage == "text":
        index.write_bytes(b"this is no database\n" * 1000)
    else:
        connection = sqlite3.connect(index)
        connection.execute("DROP TABLE words")
        connection.close()
    assert found(store, "2999") == [3000]
    connection = connect(store.path, readonly=True)
    assert index_check.compare(store.path, connection)
    fill()
    assert index_check.compare(store.path, connection) == ""
    connection.close()
    assert found(store, "2999") == [3000]


def test_an_index_without_some_rows_is_reported_and_repaired(store, writer, fill, index):
    writer.store([many([b"word"] * 20)])
    fill()
    connection = sqlite3.connect(index, isolation_level=None)
    connection.execute("DELETE FROM words WHERE rowid < 5")
    connection.close()
    result = store.verify(quick=False, alone=False, progress=lambda *_: None)
    assert result.problems == []
    assert [note for note in result.notes if "it has 16 messages, and should have 20" in note]
    assert store.repair(lambda _: False) == ["to be made anew by the janitor: the search index"]
    fill()
    assert len(found(store, "word")) == 20
    assert store.verify(quick=False, alone=False, progress=lambda *_: None).notes == []


def test_an_index_that_is_off_is_removed_and_no_change_is_kept_for_it(store, writer, fill, index):
    writer.store([many([b"word"] * 20)])
    fill()
    assert index.exists()
    sql(store, "DELETE FROM messages WHERE seq < 5")
    fill(is_on=False)
    assert not list(index.parent.glob("*-search*"))
    connection = connect(store.path, readonly=True)
    assert connection.execute("SELECT count(*) FROM search_changes").fetchone() == (0,)
    connection.close()
    assert len(found(store, "word")) == 16
    fill()
    assert len(found(store, "word")) == 16


def changes(store):
    connection = connect(store.path, readonly=True)
    try:
        return connection.execute("SELECT count(*) FROM search_changes").fetchone()[0]
    finally:
        connection.close()


def test_an_index_for_which_there_is_no_room_is_not_written(store, writer, fill, index):
    writer.store([many([b"word"] * 3)])
    sql(store, "DELETE FROM messages WHERE seq = 2")
    with pytest.raises(StoreError, match="no room for the search index"):
        fill(floor=2**60)
    assert not index.exists()
    assert changes(store) == 0
    assert found(store, "word") == [3, 1]


def test_an_index_for_which_there_is_no_more_room_loses_what_is_deleted_all_the_same(
    store, writer, fill
):
    writer.store([many([b"word"] * 3)])
    fill()
    writer.store([many([b"word"] * 3)])
    sql(store, "DELETE FROM messages WHERE seq = 2")
    with pytest.raises(StoreError, match="no room for the search index"):
        fill(floor=2**60)
    assert changes(store) == 0
    assert found(store, "word") == [6, 5, 4, 3, 1]
    fill()
    assert found(store, "word") == [6, 5, 4, 3, 1]


def test_the_indexer_rests_while_many_messages_come_in(store, writer):
    rests = []
    work = Indexer(store.path, is_on=True, floor=0, rest=lambda s: rests.append(s) or False)
    work.run()
    writer.store([many([b"word"] * 3000)])
    began = time.monotonic()
    work.run()
    busy = sum(rests) / (time.monotonic() - began)
    work._close()
    assert busy > 2  # and below 1 where few messages come in


def test_an_index_that_is_complete_is_left_alone_until_something_changes(
    store, writer, index, monkeypatch
):
    opened = []
    monkeypatch.setattr(
        indexer, "connect", lambda *args, **kwargs: opened.append(1) or connect(*args, **kwargs)
    )
    work = Indexer(store.path, is_on=True, floor=0, rest=lambda _: False)

    def looks():
        """Run until nothing is opened any more; return how often it was."""
        opened.clear()
        for _ in range(5):
            before = len(opened)
            while not work.run():
                pass
            if len(opened) == before:
                return len(opened)
        raise AssertionError("it looks again and again")

    writer.store([many([b"early"] * 20)])
    assert looks()
    assert not looks()
    writer.store([one(b"late")])
    assert looks()
    assert found(store, "late") != []
    sql(store, "DELETE FROM messages WHERE seq = 3")
    assert looks()
    paths.damaged_mark(index).touch()
    assert looks()
    index.write_bytes(b"no database")
    assert looks()
    assert not looks()
    work._close()


def test_the_doctor_says_how_far_the_index_goes(store, writer, fill, index):
    def check():
        return next(c for c in store.health.database() if c.check == "search index")

    writer.store([one(b"word")])
    assert (check().level, check().text) == ("ok", "there is none")
    fill()
    assert check().text.endswith("complete")
    writer.store([one(b"word")])
    assert "1 messages are not in it yet" in check().text
    index.write_bytes(b"no database" * 1000)
    assert check().level == "warning"


def test_an_older_database_is_indexed_after_its_upgrade(store, writer, fill):
    writer.store([many([b"word %d" % n for n in range(100)])])
    sql(
        store,
        "DROP TRIGGER appliance_search_deleted",
        "DROP TRIGGER appliance_search_updated",
        "DROP TABLE search_changes",
        "DROP TABLE search_identity",
        "DELETE FROM _sqlite_migrations WHERE name = 'm011_search'",
        "PRAGMA user_version = 10",
    )
    assert store.migrate() == ["m011_search"]
    assert found(store, "99") == [100]
    fill()
    assert found(store, "99") == [100]
    assert len(found(store, "word")) == 100


def test_folding_leaves_a_text_without_accents_and_in_small_letters():
    assert fold("ÀÉÎõü Straße") == "aeiou straße"
    assert fold("".join(map(chr, range(sys.maxunicode // 64)))) is not None
