"""Connections on which PostgreSQL is written: kept for the next write, and rests."""

import os
import signal
import time

import pytest
from standstill import frozen
from store_contents import many

from appliance.errors import StoreError
from appliance.store.postgresql.connections import connect
from appliance.store.sql import recounter


@pytest.fixture
def engine():
    return "postgresql"


@pytest.fixture
def written(store):
    yield store._database
    store._database._writes.close()


def backend(connection):
    return connection.execute("SELECT pg_backend_pid()").fetchone()[0]


@pytest.fixture
def session(config, store):
    """A session that holds a lock."""
    session = connect(config.database_url, readonly=False)
    session.execute("SELECT pg_advisory_lock(1)")
    yield session
    session.close()


@pytest.fixture
def is_free(config, store):
    """Whether another session can have the lock."""
    other = connect(config.database_url, readonly=False)
    yield lambda: other.execute("SELECT pg_try_advisory_lock(1)").fetchone()[0]
    other.close()


def number_of(database):
    with database.writing(synced=False) as connection:
        return backend(connection)


def test_a_write_uses_the_connection_of_the_one_before_it(written):
    assert len({number_of(written) for _ in range(5)}) == 1
    with written.writing() as one, written.writing() as two, written.writing() as three:
        assert len({backend(each) for each in (one, two, three)}) == 3
    assert len(written._writes._idle) == 2


def test_a_connection_that_was_ended_meanwhile_is_made_anew(written, by_hand):
    first = number_of(written)
    by_hand(f"SELECT pg_terminate_backend({first}, 10000)")
    assert number_of(written) != first


def test_a_write_that_fails_leaves_nothing_to_the_next_one(written, by_hand):
    def write(body):
        with written.writing() as connection:
            connection.execute("INSERT INTO topics VALUES (?, 0, 0, '', '')", (body,))
            if body == "bad":
                raise ValueError

    write("good")
    with pytest.raises(ValueError):
        write("bad")
    with pytest.raises(StoreError):
        write("good")
    write("other")
    assert sorted(by_hand("SELECT topic FROM topics")) == [("good",), ("other",)]


def test_a_write_that_need_not_be_synced_leaves_the_next_one_synced(written):
    query = "SHOW synchronous_commit"
    with written.writing(synced=False) as connection:
        assert connection.execute(query).fetchone()[0] == "off"
    with written.writing() as connection:
        assert connection.execute(query).fetchone()[0] == "on"


def test_a_long_statement_of_the_janitors_gives_signs_of_life(written):
    rests = []
    with written.working(lambda seconds: rests.append(seconds) or False) as work:
        (row,) = work.execute("SELECT 7 FROM pg_sleep(1)").fetchall()
        with work.transaction():
            work.execute("INSERT INTO topics VALUES ('t', 0, 0, '', '')")
    assert row == (7,)
    assert len(rests) > 2


def test_a_long_statement_of_the_janitors_ends_when_it_is_told_to_stop(written, by_hand):
    began = time.monotonic()
    with written.working(lambda _: time.monotonic() - began > 0.5) as work:
        work.execute("INSERT INTO topics SELECT 't', 0, 0, '', '' FROM pg_sleep(600)")
    assert time.monotonic() - began < 60
    query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'INSERT %600%'"
    while by_hand(query) != [(0,)]:
        assert time.monotonic() - began < 60
    assert by_hand("SELECT count(*) FROM topics") == [(0,)]


def slow_down_the_list_of_topics(monkeypatch, seconds):
    slow = f"SELECT * FROM ({recounter._TOPICS}) AS list WHERE pg_sleep({seconds}) IS NOT NULL"
    monkeypatch.setattr(recounter, "_TOPICS", slow)


def test_a_recount_gives_signs_of_life_while_it_counts(store, writer, monkeypatch):
    writer.store([many([b"1", b"2"])])
    slow_down_the_list_of_topics(monkeypatch, 0.5)
    rests = []
    assert store.repair(lambda seconds: rests.append(seconds) or False) == []
    assert len(rests) > 2


def test_a_recount_that_is_told_to_stop_corrects_nothing(store, writer, by_hand, monkeypatch):
    writer.store([many([b"1", b"2"])])
    by_hand("UPDATE topics SET messages = 9")
    slow_down_the_list_of_topics(monkeypatch, 600)
    assert store.repair(lambda _: True) == []
    link = connect(store._url, readonly=True)
    assert link.execute("SELECT messages FROM topics").fetchall() == [(9,)]
    link.close()


def test_a_session_that_is_released_has_given_up_its_locks_before_the_server_sees_its_end(
    session, is_free, monkeypatch
):
    number, close = backend(session), session.driver.close
    with monkeypatch.context() as patch:
        patch.setattr(session.driver, "close", lambda: os.kill(number, signal.SIGSTOP) or close())
        try:
            session.release()
            assert session.driver.closed
            assert is_free()
        finally:
            os.kill(number, signal.SIGCONT)


def test_a_session_that_is_released_on_a_server_that_hangs_is_closed_soon(session, is_free):
    with frozen(backend(session)):
        began = time.monotonic()
        session.release()
        assert time.monotonic() - began < 5
        assert session.driver.closed
        assert not is_free()


def test_a_session_that_is_released_after_its_end_is_closed(session, by_hand):
    by_hand(f"SELECT pg_terminate_backend({backend(session)}, 10000)")
    session.release()
    assert session.driver.closed
    session.release()


def test_a_session_that_is_released_within_a_transaction_is_closed(session, by_hand):
    session.execute("BEGIN")
    session.execute("CREATE TABLE undone (number integer)")
    session.release()
    assert session.driver.closed
    assert by_hand("SELECT to_regclass('undone')") == [(None,)]
