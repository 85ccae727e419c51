"""Connections for each thread that any thread closes: none is closed while it is read on."""

import random
import threading
import time
from contextlib import contextmanager

import pytest

from appliance.store.thread_connections import ThreadConnections


class Connection:
    """Notes which threads closed it."""

    def __init__(self, number):
        self.number = number
        self.is_current = True
        self.closed_by = []

    def close(self):
        self.closed_by.append(threading.get_ident())


class Opened(list):
    """All connections that were opened, in order."""

    def open_one(self):
        self.append(Connection(len(self)))
        return self[-1]

    @property
    def closed(self):
        return [each.number for each in self if each.closed_by]


@pytest.fixture
def opened():
    return Opened()


@pytest.fixture
def connections(opened):
    return ThreadConnections(opened.open_one, lambda connection: connection.is_current)


@contextmanager
def in_thread(target):
    """Run a function in a thread for the time of the block, and wait for its end then."""
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    yield thread
    thread.join(10)
    assert not thread.is_alive()


@contextmanager
def reading_elsewhere(connections):
    """Read in another thread for the time of the block; lends the connection it reads on."""
    lent, begun, end = [], threading.Event(), threading.Event()

    def read():
        with connections.lending() as connection:
            lent.append(connection)
            begun.set()
            end.wait(10)

    with in_thread(read):
        assert begun.wait(10)
        yield lent[0]
        end.set()


def read(connections):
    with connections.lending() as connection:
        return connection.number


def test_a_thread_reads_on_the_same_connection_again_and_another_one_on_its_own(connections):
    assert [read(connections) for _ in range(3)] == [0, 0, 0]
    with reading_elsewhere(connections) as other:
        assert other.number == 1
        assert read(connections) == 0


def test_a_connection_that_nobody_reads_on_is_closed_at_once_and_another_one_opened(
    connections, opened
):
    read(connections)
    connections.close()
    assert opened.closed == [0]
    assert read(connections) == 1
    assert opened.closed == [0]


def test_a_connection_in_use_is_closed_by_its_own_thread_when_it_has_read(connections, opened):
    read(connections)
    with reading_elsewhere(connections) as other:
        connections.close()
        assert opened.closed == [0]
    assert other.closed_by
    assert threading.get_ident() not in other.closed_by


def test_a_thread_closes_what_it_reads_on_when_it_has_read(connections, opened):
    with connections.lending():
        connections.close()
        assert opened.closed == []
    assert opened.closed == [0]


def test_closing_twice_closes_each_connection_once(connections, opened):
    read(connections)
    with reading_elsewhere(connections):
        connections.close()
        connections.close()
    connections.close()
    assert [len(each.closed_by) for each in opened] == [1, 1]


def test_a_read_within_a_read_has_the_same_connection_and_ends_with_the_outer_one(
    connections, opened
):
    with connections.lending() as outer:
        with connections.lending() as inner:
            assert inner is outer
            connections.close()
        assert opened.closed == []
    assert opened.closed == [0]


def test_a_read_within_a_read_has_another_connection_after_a_close(connections, opened):
    with connections.lending() as outer:
        connections.close()
        with connections.lending() as inner:
            assert (outer.number, inner.number) == (0, 1)
        assert opened.closed == []
    assert opened.closed == [0]
    assert read(connections) == 1


def test_a_connection_that_failed_is_closed_when_its_last_read_ends_and_not_used_again(
    connections, opened
):
    with connections.lending() as outer:
        with connections.lending() as inner:
            connections.leave(inner)
        assert opened.closed == []
        assert read(connections) == 1
        connections.leave(outer)  # it failed there too
    assert opened.closed == [0]
    assert len(opened[0].closed_by) == 1
    assert read(connections) == 1


def test_a_connection_that_is_not_current_any_more_is_closed_and_made_anew(connections, opened):
    read(connections)
    opened[0].is_current = False
    assert read(connections) == 1
    assert opened.closed == [0]
    with connections.lending():
        opened[1].is_current = False
        assert read(connections) == 2
        assert opened.closed == [0]
    assert opened.closed == [0, 1]


def test_a_read_that_can_not_begin_leaves_nothing_in_use(opened):
    failing = []

    def check(connection):
        if failing:
            raise OSError
        return True

    connections = ThreadConnections(opened.open_one, check)
    read(connections)
    failing.append(True)
    with pytest.raises(OSError), connections.lending():
        pass
    assert opened.closed == []
    connections.close()
    assert opened.closed == [0]


def test_a_connection_that_can_not_be_opened_is_tried_again_by_the_next_read(opened):
    works = []

    def open_one():
        if not works:
            raise OSError
        return opened.open_one()

    connections = ThreadConnections(open_one, lambda _: True)
    with pytest.raises(OSError), connections.lending():
        pass
    works.append(True)
    assert read(connections) == 0


def test_a_connection_that_is_opened_during_a_close_is_its_threads_until_the_next_one(opened):
    opening, go_on = threading.Event(), threading.Event()

    def open_one():
        opening.set()
        go_on.wait(10)
        return opened.open_one()

    connections = ThreadConnections(open_one, lambda _: True)
    with in_thread(lambda: read(connections)):
        assert opening.wait(10)
        connections.close()
        go_on.set()
    assert opened.closed == []
    connections.close()
    assert opened.closed == [0]


def test_a_connection_that_is_closed_between_the_look_at_it_and_its_use_can_be_used(opened):
    def closes(connection):
        connections.close()
        return True

    connections = ThreadConnections(opened.open_one, closes)
    read(connections)
    with connections.lending() as connection:
        assert (connection.number, opened.closed) == (0, [])
    assert opened.closed == [0]


def test_a_read_that_was_given_up_ends_where_its_generator_does(connections, opened):
    def rows():
        with connections.lending() as connection:
            yield connection

    given_up = rows()
    next(given_up)
    connections.close()
    assert opened.closed == []
    with in_thread(given_up.close):
        pass
    assert opened.closed == [0]


def test_a_generator_that_is_collected_while_its_thread_holds_the_lock_keeps_nobody_waiting(
    connections, opened
):
    def rows():
        with connections.lending() as connection:
            yield connection

    def collect():
        given_up = rows()
        next(given_up)
        connections.close()
        with connections._lock:
            del given_up

    with in_thread(collect):
        pass
    assert opened.closed == [0]


def test_a_thread_with_the_number_of_one_that_has_ended_takes_its_connection_over(
    connections, opened
):
    numbers = set()

    def once():
        numbers.add(threading.get_ident())
        read(connections)

    for _ in range(20):
        with in_thread(once):
            pass
    assert len(opened) == len(numbers)
    connections.close()
    assert len(opened.closed) == len(opened)


def test_no_connection_is_closed_under_a_read_however_many_threads_read_and_close(
    connections, opened
):
    end, seen = time.monotonic() + 1.0, []

    def read_and_close(seed):
        chance = random.Random(seed)
        while time.monotonic() < end:
            with connections.lending() as connection:
                if chance.random() < 0.2:
                    connections.close()
                if chance.random() < 0.2:
                    connections.leave(connection)
                with connections.lending() as inner:
                    time.sleep(chance.random() / 10_000)
                    seen.append(bool(connection.closed_by or inner.closed_by))

    threads = [threading.Thread(target=read_and_close, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    connections.close()
    assert seen
    assert not any(seen)
    assert {len(each.closed_by) for each in opened} == {1}
