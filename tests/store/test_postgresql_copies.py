"""Reading copies of a PostgreSQL database: never less than what is stored, whatever a copy does."""

import threading
import time

import pytest
from postgres_copy import PostgresCopy
from store_contents import letter, many, one

from appliance.model.search_words import parse_words
from appliance.store import open_store
from appliance.store.filters import MessageFilter
from appliance.store.rows import Span, Window


@pytest.fixture
def engine():
    return "postgresql"


@pytest.fixture(scope="module")
def copy(postgres_server):
    copy = PostgresCopy(postgres_server)
    yield copy
    copy.remove()


@pytest.fixture
def copied(load, database, copy, store):
    """The same store, which is read at the copy."""
    copy.start()
    url = copy.url_of(database["APPLIANCE_DATABASE_URL"])
    copied = open_store(load(min_free_bytes="0", database_read_url=url))
    yield copied
    copied.reader.close()


def read_from(store):
    return store.reader.details()["read_from"]


def test_messages_are_read_at_the_copy(copied, writer, store):
    writer.store([many([b"a word", b"b"]), letter()])
    deadline = time.monotonic() + 30
    while read_from(copied) != "copy":  # the copy has the database made just now, and its tables
        assert time.monotonic() < deadline
        time.sleep(0.1)
    reader = copied.reader
    assert [row.body for row in reader.page(Window("t"), 9).rows] == [b"b", b"a word"]
    wanted = MessageFilter(words=parse_words("word"))
    assert [row.seq for row in reader.find(wanted, Span(), 9).rows] == [1]
    assert reader.totals().messages == 2
    assert read_from(copied) == "copy"
    assert read_from(store) == "primary"


def test_a_read_shows_what_is_stored_while_the_copy_stands_still(copied, writer, copy):
    writer.store([one(b"first")])
    with copy.standing_still():
        for n in range(5):
            envelope = one(b"%d" % n)
            writer.store([envelope])
            assert copied.reader.message(envelope.id) is not None
            assert copied.reader.last_seq() == n + 2
        assert read_from(copied) == "primary"
    deadline = time.monotonic() + 30
    while read_from(copied) != "copy":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert copied.reader.totals().messages == 6


def test_each_message_is_there_as_soon_as_it_is_stored_under_load(copied, writer, store):
    stop = threading.Event()

    def load():
        other = store.open_writer()
        while not stop.wait(0.001):
            other.store([many([b"load"] * 20, "load")])
        other.close()

    thread = threading.Thread(target=load)
    thread.start()
    try:
        for n in range(60):
            envelope = one(b"%d" % n)
            writer.store([envelope])
            assert copied.reader.message(envelope.id) is not None
    finally:
        stop.set()
        thread.join()


def test_reads_go_on_at_the_primary_while_the_copy_is_gone(copied, writer, copy):
    writer.store([one(b"x")])
    copied.reader.totals()
    copy.stop("immediate")
    assert copied.reader.totals().messages == 1
    assert copied.reader.totals().messages == 1
    copy.start()


def test_the_doctor_says_where_it_may_not_see_which_copies_are_connected(
    load, database, copy, store, by_hand
):
    copy.start()
    url = database["APPLIANCE_DATABASE_URL"]
    by_hand("CREATE ROLE ordinary LOGIN IN ROLE pg_read_all_data")
    try:
        seen = open_store(load(database_url=url.replace("user=postgres", "user=ordinary"))).health
        copies = {each.check: each for each in seen.database()}["copies"]
        assert copies.level == "ok"
        assert "pg_read_all_stats" in copies.text
        by_hand("GRANT pg_read_all_stats TO ordinary")
        copies = {each.check: each for each in seen.database()}["copies"]
        assert "no copy is synchronous" in copies.text
    finally:
        by_hand("DROP ROLE ordinary")
