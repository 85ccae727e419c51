"""`appliance deliver` sends old messages again, to real receivers, beside new ones."""

import threading
import time

import pytest
import standardwebhooks
from harness import wait_until
from outbound import DEED, SECRET, Out
from receivers import Reply, receiving
from replaying import REPLAY_DEED, asked

from appliance.store.endpoint_rows import GIVEN_UP, WAITING
from appliance.store.replay_rows import DONE, RUNNING, STOPPED, ReplaySelection

REPLAY = "appliance-replay"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    out = Out(tmp_path_factory.mktemp("out"))
    out.process.start()
    yield out
    out.close()


@pytest.fixture
def out(running):
    """The process that delivers, without an endpoint; what is stored from now on is a test's."""
    running.first = running.store.deliveries.end() + 1
    yield running
    for each in running.store.endpoints.all():
        running.store.endpoints.remove(each.name, DEED)


def replay(out, name="shop", **selection):
    if "sql" not in selection:
        selection["first_seq"] = out.first
    chosen = ReplaySelection(**selection)
    return asked(out.store, chosen, target=name, endpoint=out.row(name).id)


def ended(out, row):
    """Wait until a replay is done; return it."""

    def look():
        found = out.store.replays.find(row.id)
        return found if found.state == DONE and not found.waiting else None

    return wait_until(look, "the replay is done", more=lambda: out.process.log)


def again(receiver):
    """What a receiver got by a replay."""
    return [got for got in receiver.journal if REPLAY in got.headers]


def test_old_messages_are_signed_anew_and_say_that_they_are_replayed(out):
    out.put(b'{"n":1}', b'{"n":2}', b"[3]", topic="orders")
    with receiving() as receiver:
        out.endpoint(receiver.url, start=out.first - 1)
        out.settled()
        began = int(time.time())
        row = replay(out, where=("n>=2",))
        found = ended(out, row)
        first = {got.body: got for got in receiver.journal if REPLAY not in got.headers}
    (got,) = again(receiver)
    assert got.headers[REPLAY] == row.id
    assert got.body == b'{"n":2}'
    assert got.id == first[got.body].id
    assert began <= int(got.headers["webhook-timestamp"]) <= time.time()
    assert standardwebhooks.Webhook(SECRET).verify(got.body, got.headers) == {"n": 2}
    assert (found.messages, found.sent, found.gone) == (1, 1, 0)


def test_a_query_chooses_what_is_sent_again(out):
    out.put(*(b"%d" % n for n in range(1, 301)), topic="third")
    with receiving() as receiver:
        out.endpoint(receiver.url, start=None)
        row = replay(out, sql="SELECT seq FROM messages WHERE topic = 'third' AND body % 3 = 0")
        assert ended(out, row).sent == 100
    assert sorted(map(int, receiver.bodies)) == list(range(3, 301, 3))


def test_new_messages_pass_a_replay_that_is_slow(out):
    out.put(*(b"old" for _ in range(50)))
    free = threading.Event()

    def answer(got):
        if REPLAY in got.headers:
            free.wait(60)
        return Reply()

    with receiving(answer) as receiver:
        out.endpoint(receiver.url, start=None, concurrency=4, timeout=60)
        row = replay(out)
        wait_until(lambda: len(again(receiver)) == 2, "half of the places are the replay's")
        out.put(*(b"new" for _ in range(20)))
        wait_until(lambda: receiver.bodies.count(b"new") == 20, "the new ones are delivered")
        assert len(again(receiver)) == 2
        free.set()
        assert ended(out, row).sent == 50


def test_a_replay_is_stopped_and_goes_on_where_it_was(out):
    out.put(*(b"%d" % n for n in range(200)))
    free = threading.Semaphore(50)

    def answer(_):
        free.acquire(timeout=60)
        return Reply()

    with receiving(answer) as receiver:
        out.endpoint(receiver.url, start=None, concurrency=2, timeout=60)
        row = replay(out)
        wait_until(lambda: out.store.replays.find(row.id).sent == 50, "a part is sent")
        out.store.replays.set_state(row.id, RUNNING, STOPPED, REPLAY_DEED)
        with receiving() as other:  # whoever delivers to it has read of the stop
            out.endpoint(other.url, "other", start=None)
            out.put(b"new")
            wait_until(lambda: other.bodies == [b"new"], "the stop is known")
        free.release(500)
        wait_until(lambda: out.store.replays.find(row.id).sent == 51, "what was begun is counted")
        wait_until(lambda: b"new" in receiver.bodies, "new messages are delivered")
        stopped = out.store.replays.find(row.id)
        assert (stopped.state, stopped.sent) == (STOPPED, 51)
        out.store.replays.set_state(row.id, STOPPED, RUNNING, REPLAY_DEED)
        assert ended(out, row).sent == 200
    assert len(receiver.bodies) == 201  # each once


def test_a_replayed_message_that_fails_is_tried_again_and_counted_by_its_replay(out):
    out.put(b"1", b"2", b"3")
    failing = {b"2", b"3"}
    with receiving(lambda got: Reply(500 if got.body in failing else 200)) as receiver:
        out.endpoint(receiver.url, start=None)
        row = replay(out)

        def waits():
            found = out.store.replays.find(row.id)
            return found if (found.state, found.waiting) == (DONE, 2) else None

        found = wait_until(waits, "it is through, and two wait")
        assert found.sent == 1
        assert {each.replay for each in out.due(WAITING)} == {row.id}
        failing.clear()
        out.hurry()
        wait_until(lambda: out.store.replays.find(row.id).sent == 3, "all are delivered")
    assert {got.headers[REPLAY] for got in receiver.journal} == {row.id}


def test_a_message_that_was_given_up_is_off_the_list_once_it_was_replayed(out):
    out.put(b"1", b"2")
    status = [500]
    with receiving(lambda _: Reply(status[0])) as receiver:
        out.endpoint(receiver.url, start=out.first - 1, lifetime=0)
        wait_until(lambda: len(out.due(GIVEN_UP)) == 2, "both are given up")
        status[0] = 204
        query = f"SELECT seq FROM deliveries_due WHERE state = 'given-up' AND seq > {out.first}"
        ended(out, replay(out, sql=query))
        assert [each.seq for each in out.due()] == [out.first]


def test_order_holds_within_a_replay(out):
    for n in range(30):
        out.put(b"%d" % n, topic=f"t{n % 2}")
    failing = {b"10"}
    with receiving(lambda got: Reply(500 if got.body in failing else 200)) as receiver:
        out.endpoint(receiver.url, start=None, ordered=True)
        row = replay(out)
        wait_until(lambda: {b"10", b"29"} <= set(receiver.bodies), "the other topic goes on")
        assert not [body for body in receiver.bodies if int(body) > 10 and int(body) % 2 == 0]
        failing.clear()
        out.hurry()
        assert ended(out, row).sent >= 30
    even = [int(body) for body in receiver.bodies if int(body) % 2 == 0]
    odd = [int(body) for body in receiver.bodies if int(body) % 2]
    assert list(dict.fromkeys(even)) == list(range(0, 30, 2))
    assert list(dict.fromkeys(odd)) == list(range(1, 30, 2))


def test_kills_repeat_messages_of_a_replay_and_skip_none(out):
    bodies = [b"%d" % n for n in range(3000)]
    out.put(*bodies)
    with receiving() as receiver:
        out.endpoint(receiver.url, start=None, concurrency=20)
        row = replay(out)
        for n in range(1, 4):
            wait_until(lambda n=n: len(set(receiver.bodies)) >= n * 500, "some are sent")
            out.process.kill()
            out.process.start()
            out.put(b"new %d" % n)
        found = ended(out, row)
        wait_until(lambda: b"new 3" in receiver.bodies, "new ones arrive too")
    assert set(bodies) <= set(receiver.bodies)
    assert {b"new %d" % n for n in range(1, 4)} <= set(receiver.bodies)
    assert found.cursor == found.until
    assert found.sent <= len(again(receiver))


def test_a_replay_waits_while_its_endpoint_is_paused(out):
    out.put(b"1")
    with receiving() as receiver:
        out.endpoint(receiver.url, start=None)
        out.store.endpoints.pause("shop", "why", DEED)
        row = replay(out)
        out.endpoint(receiver.url, "other", start=None)
        ended(out, replay(out, "other"))
        assert len(receiver.bodies) == 1
        assert out.store.replays.find(row.id).state == RUNNING
        out.store.endpoints.resume("shop", DEED)
        ended(out, row)
