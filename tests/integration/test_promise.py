"""The promise: what was answered 202 is one row, in order, whatever dies meanwhile."""

import contextlib
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
import time

import pika
import pytest
from harness import START_SECONDS, free_port, wait_until
from load import Load, amqp, connect, depth, post, wait_accepting, wait_drained
from standstill import frozen

from appliance.broker import base

#: Seconds; also the time within which every request of these tests must be answered.
PUBLISH_TIMEOUT = 2.0
#: Seconds beyond the deadline that two busy cores may need to answer.
SLACK = 1.5

#: A worker that ends as if killed, after a commit and before its acknowledgement.
STORES_AND_DIES = """
import os, signal
from appliance.cli import main
from appliance.store.sqlite.writer import SqliteWriter
store = SqliteWriter.store
def store_and_die(self, contents, **options):
    store(self, contents, **options)
    os.kill(os.getpid(), signal.SIGKILL)
SqliteWriter.store = store_and_die
main()
"""
#: A worker that is slow to commit, so that whatever is to happen amid a transaction can happen.
STORES_SLOWLY = """
import time
from appliance.cli import main
from appliance.store.sqlite.writer import SqliteWriter
store = SqliteWriter.store
def store_slowly(self, contents, **options):
    time.sleep(0.5)
    store(self, contents, **options)
SqliteWriter.store = store_slowly
main()
"""


@pytest.fixture(scope="module")
def shared(module_stack):
    return module_stack(workers=2, publish_timeout=PUBLISH_TIMEOUT)


@pytest.fixture
def running(shared):
    """The stack of this module, with every process alive, before and after each test."""
    yield shared
    for process in (shared.broker.process, shared.api):
        if not process.running:
            process.start()
    wait_accepting(shared)
    for worker in shared.workers:
        if not worker.running:
            start_worker(worker)
    shared.wait_ready()


@contextlib.contextmanager
def worker_that(code, stack):
    """Run a worker with a change of its insides; yields its process."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, "worker"],
        env=stack.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def start_worker(worker):
    """Start it and wait until it consumes: while Python still starts it can't be stopped well."""
    worker.start()
    wait_until(lambda: "broker connected" in worker.log_now, "a worker consumes", 30)


def wait_attached(stack):
    """Wait until every worker consumes, whichever was restarted."""
    for worker in stack.workers:
        wait_until(lambda w=worker: "broker connected" in w.log_now, "it consumes", 30, stack.logs)


def stop_workers(stack):
    wait_attached(stack)
    for worker in stack.workers:
        assert worker.stop() == 0


def restart(process):
    process.kill()
    process.start()


def check_deadlines(load):
    """Every request was answered, and none later than promised."""
    slow = [entry for entry in load.journal if entry.seconds > PUBLISH_TIMEOUT + SLACK]
    assert not slow, slow[:3]
    for entry in load.refused:
        assert int(entry.headers["retry-after"]) >= 1
        assert entry.headers["content-type"] == "application/problem+json"
    assert {entry.status for entry in load.journal} <= {0, 202, 503}


# --- the worker --------------------------------------------------------------------------------


def test_killed_between_commit_and_acknowledgement_stores_nothing_twice(running):
    stop_workers(running)
    with Load(running, "between", senders=3, most=50) as load:
        load.join()
    assert len(load.accepted) == 150
    committed, envelopes = running.count(), depth(running)
    assert 0 < envelopes <= 150
    for _ in range(3):
        with worker_that(STORES_AND_DIES, running) as worker:
            assert worker.wait(30) == -signal.SIGKILL
        assert running.count() >= committed  # it did commit
        committed = running.count()
    assert depth(running) == envelopes  # nothing was acknowledged
    assert 0 < len([r for r in running.rows() if r["topic"].startswith("between")]) <= 150
    running.workers[0].start()
    load.verify()


def test_the_last_envelope_is_acknowledged_although_nothing_comes_after_it(running):
    """Acknowledgements are joined, of our envelopes and of foreign messages: not for long."""
    for topic in ("last-ours", "last-foreign"):
        for number in range(5):
            if topic == "last-ours":
                running.publish(topic, f"{number}".encode()).raise_for_status()
            else:
                publish_foreign(running, topic, f"{number}".encode())
        running.wait_rows(5, topic)
        time.sleep(0.5)
        for worker in running.workers:
            worker.kill()
        assert depth(running) == 0  # else it is back in the queue
        for worker in running.workers:
            start_worker(worker)


def test_killed_over_and_over_under_load_loses_and_doubles_nothing(running):
    with Load(running, "killed-worker", senders=6) as load:
        for turn in range(6):
            load.wait_accepted(150)
            restart(running.workers[turn % 2])
        load.wait_accepted(150)
    load.verify()
    check_deadlines(load)
    assert load.refused == []  # publishers noticed nothing


def test_a_standby_takes_over_at_once_and_in_order(running):
    """The active one dies with many envelopes in its hands; the other goes on where it was."""
    pile_up(running, "takeover")
    before = running.count()
    with worker_that(STORES_SLOWLY, running) as slow:
        wait_until(lambda: running.count() > before, "the slow one stores", 30, running.logs)
        start_worker(running.workers[0])  # stands by
        slow.kill()
        began, stored = time.monotonic(), running.count()
        assert stored - before < len(running.load.accepted) / 2, "too much to tell anything"
        wait_until(lambda: running.count() > stored, "the standby stores", 10, running.logs)
        assert time.monotonic() - began < 2
    running.load.verify()


def pile_up(stack, name):
    """Let more wait in the queue than one worker takes at once; returns how many envelopes."""
    stop_workers(stack)
    with Load(stack, name, senders=2, pause=0, most=200) as stack.load:
        stack.load.join()
    assert len(stack.load.accepted) == 400
    waiting = depth(stack)
    assert waiting > 100
    return waiting


def test_a_worker_that_is_told_to_stop_keeps_the_order(running):
    """The next one must not store what came later while this one still commits."""
    waiting = pile_up(running, "handover")
    before = running.count()
    with worker_that(STORES_SLOWLY, running) as slow:
        wait_until(lambda: depth(running) < waiting, "the slow one holds some", 30, running.logs)
        start_worker(running.workers[0])  # stands by
        assert running.count() - before < 400, "all was stored too soon to tell anything"
        slow.terminate()
        assert slow.wait(30) == 0
    running.load.verify()


def test_a_batch_is_there_as_a_whole_or_not_at_all(running):
    """Whoever looks, whenever: also while workers are killed amid its transaction."""
    lines, seen, done = 20_000, set(), threading.Event()

    def look():
        while not done.is_set():
            seen.add(running.count("whole"))

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for turn in range(8):
            body = b"\n".join(b"%d %d" % (turn, n) for n in range(lines))
            answer = running.publish("whole", body, params={"split": "lines"})
            assert answer.status_code == 202
            time.sleep(0.02 * turn)
            restart(running.workers[turn % 2])
        rows = running.wait_rows(8 * lines, "whole")
        wait_drained(running)
    finally:
        done.set()
        looker.join()
    assert [row["body"] for row in rows] == [f"{t} {n}" for t in range(8) for n in range(lines)]
    assert running.count("whole") == 8 * lines
    assert {count % lines for count in seen} == {0}
    (kept,) = running.query("SELECT * FROM topics WHERE topic = 'whole'")
    assert (kept["messages"], kept["bytes"]) == (8 * lines, sum(len(r["body"]) for r in rows))


def test_a_worker_that_is_told_to_stop_leaves_nothing_unacknowledged(running):
    with Load(running, "stopped-worker", senders=2) as load:
        load.wait_accepted(100)
    wait_drained(running)
    stop_workers(running)
    with amqp(running) as link:
        answer = link.channel().queue_declare(base.QUEUE, passive=True)
    assert (answer.method.message_count, answer.method.consumer_count) == (0, 0)
    load.verify()


def test_a_worker_that_is_told_to_stop_under_load_ends_well(running):
    with Load(running, "stopped-under-load", senders=4) as load:
        for worker in running.workers * 2:
            load.wait_accepted(100)
            assert worker.stop() == 0
            start_worker(worker)
    load.verify()
    assert load.refused == []
    assert "Traceback" not in "".join(worker.log for worker in running.workers)


@pytest.mark.slow
def test_a_locked_database_holds_the_worker_and_not_the_publishers(running):
    """Holds the lock for longer than SQLite itself would wait: 8 s."""
    other = sqlite3.connect(running.database, isolation_level=None, timeout=30)
    other.execute("BEGIN IMMEDIATE")
    before = running.count()
    with Load(running, "locked", senders=2, pause=0.02) as load:
        time.sleep(8)
        assert running.count() == before
        other.execute("ROLLBACK")
        other.close()
        wait_until(lambda: running.count() > before, "it goes on", 20, running.logs)
    load.verify()
    assert load.refused == []
    assert all(process.running for process in running.processes)


# --- the API -----------------------------------------------------------------------------------


def test_the_api_killed_between_publish_and_confirm_doubles_nothing(running):
    """The broker is held, so nothing is confirmed; a retry with the same key is the same one."""
    answers = []

    def send(number):
        with contextlib.closing(connect(running)) as link, contextlib.suppress(OSError):
            answers.append(
                post(link, running, f"unconfirmed-{number}", b"x", Idempotency_Key=str(number))
            )

    threads = [threading.Thread(target=send, args=(n,)) for n in range(10)]
    with frozen(running.broker.process.pid):
        for thread in threads:
            thread.start()
        time.sleep(0.7)
        running.api.kill()
        for thread in threads:
            thread.join(20)
        assert answers == []  # nobody was promised anything
    running.api.start()
    wait_accepting(running)
    for number in range(10):
        send(number)
    assert [status for status, _, _ in answers] == [202] * 10
    for number in range(10):
        running.wait_rows(1, f"unconfirmed-{number}")
    wait_drained(running)
    rows = running.query("SELECT topic FROM messages WHERE topic LIKE 'unconfirmed-%'")
    assert len(rows) == 10
    assert running.query("SELECT * FROM dead_letters WHERE topic LIKE 'unconfirmed-%'") == []


def test_the_api_killed_over_and_over_under_load_keeps_what_it_promised(running):
    with Load(running, "killed-api", senders=6) as load:
        for _ in range(4):
            load.wait_accepted(150)
            restart(running.api)
        load.wait_accepted(150)
    load.verify()


def test_the_api_told_to_stop_under_load_answers_what_it_took(running):
    with Load(running, "stopped-api", senders=6) as load:
        for _ in range(3):
            load.wait_accepted(150)
            assert running.api.stop() == 0
            running.api.start()
        load.wait_accepted(150)
    load.verify()
    check_deadlines(load)
    assert "Traceback" not in running.api.log


@pytest.mark.slow
def test_the_api_told_to_stop_does_not_wait_for_a_client_that_dawdles(running):
    """Waits the grace that a request has."""
    with contextlib.closing(connect(running)) as link:
        link.putrequest("POST", "/v1/topics/dawdles/messages")
        link.putheader("Authorization", f"Bearer {running.token}")
        link.putheader("Content-Length", "10")
        link.endheaders(b"half")
        time.sleep(0.2)
        began = time.monotonic()
        assert running.api.stop() == 0
        assert time.monotonic() - began < 10
    running.api.start()
    wait_accepting(running)
    assert running.count("dawdles") == 0


# --- the broker --------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_broker_killed_over_and_over_under_load_loses_nothing(running):
    """Waits for the broker's start, 4 s and more, three times."""
    with Load(running, "killed-broker", senders=6, pause=0.005) as load:
        for turn in range(3):
            load.wait_accepted(200, START_SECONDS)
            running.broker.process.kill()
            refused = len(load.refused)
            if turn == 1:  # longer than a publisher waits
                time.sleep(PUBLISH_TIMEOUT + 0.5)
                assert len(load.refused) > refused
            running.broker.start()
        load.wait_accepted(200, START_SECONDS)
    load.verify()
    check_deadlines(load)
    assert all(entry.status for entry in load.journal), "a request got no answer"


@pytest.mark.slow
def test_everything_killed_at_once_loses_nothing(running):
    """What a power cut does to the processes. Waits for the broker's start."""
    with Load(running, "killed-all", senders=6) as load:
        load.wait_accepted(300)
        for process in running.processes:
            process.kill()
        for process in running.processes:
            process.start()
        load.wait_accepted(300, START_SECONDS)
    load.verify()


def test_the_broker_held_for_three_seconds_is_told_honestly(running):
    with Load(running, "held", senders=4, pause=0.01) as load:
        load.wait_accepted(50)
        with frozen(running.broker.process.pid):
            time.sleep(3)
        load.wait_accepted(100)
    load.verify()
    check_deadlines(load)
    assert load.refused
    assert "not confirmed" in load.refused[0].detail


def test_the_broker_told_to_stop_and_started_again_loses_nothing(running):
    with Load(running, "stopped-broker", senders=4, pause=0.005) as load:
        load.wait_accepted(100)
        running.broker.process.stop()
        running.broker.start()
        load.wait_accepted(100, START_SECONDS)
    load.verify()
    check_deadlines(load)


def test_a_queue_that_is_deleted_is_made_again(running):
    with amqp(running) as link:
        link.channel().queue_delete(base.QUEUE)
    began = time.monotonic()
    with Load(running, "deleted", senders=3, pause=0.01) as load:
        load.wait_accepted(100)
    load.verify()  # what was confirmed is there, though it may have been sent to no queue first
    assert time.monotonic() - began < 40
    check_deadlines(load)


def test_a_queue_that_is_deleted_under_load_never_confirms_into_nothing(running):
    """What was in the deleted queue is gone with it; the workers are kept from having any."""
    with Load(running, "deleted-under-load", senders=3, pause=0.01) as load:
        load.wait_accepted(50)
        with amqp(running) as link:
            link.channel().queue_delete(base.QUEUE)
        deleted = time.monotonic()
        accepted = len(load.accepted)
        load.wait_accepted(100)
        assert time.monotonic() - deleted > 1.5  # it waited until the new queue was safe
    stored = {row["id"] for row in running.rows()}
    wait_drained(running)
    stored = {row["id"] for row in running.rows()}
    after = load.accepted[accepted + 3 :]  # those under way may have been in the old queue
    assert after
    assert [entry for entry in after if entry.id not in stored] == []


def test_the_first_message_of_a_new_queue_survives_the_brokers_death(running):
    """RabbitMQ keeps the name of a new queue in memory for a moment."""
    stop_workers(running)
    with amqp(running) as link:
        link.channel().queue_delete(base.QUEUE)
    kept = []

    def accepted():
        answer = running.publish("first", f"attempt {time.monotonic()}")
        if answer.status_code == 202:
            kept.append(answer.json()["id"])
        return kept

    wait_until(accepted, "the new queue accepts", 30, running.logs)
    running.broker.process.kill()
    running.broker.start()
    wait_accepting(running)
    start_worker(running.workers[0])
    running.wait_rows(1, "first")
    assert kept[0] in [row["id"] for row in running.rows("first")]


@pytest.mark.slow
def test_a_process_told_to_stop_while_the_broker_is_away_ends_at_once(running):
    """Waits for the broker's start."""
    wait_attached(running)
    running.broker.process.kill()
    time.sleep(0.5)
    began = time.monotonic()
    for process in (running.api, *running.workers):
        assert process.stop() == 0
    assert time.monotonic() - began < 5


@pytest.mark.slow
def test_a_broker_with_an_alarm_gets_nothing_and_the_publisher_is_told(stack):
    """Its disk has, as it alone thinks, too little room. Waits for the broker's start."""
    tight = stack(start=False, publish_timeout=1)
    tight.broker.process.env = {**tight.env, "APPLIANCE_MIN_FREE_BYTES": "1048576GiB"}
    tight.cli("migrate").check_returncode()
    for process in (tight.broker.process, tight.api, *tight.workers):
        process.start()
    tight.broker.wait()
    wait_accepting(tight)  # the broker says so only when something is published
    answer = tight.publish("tight", b"x")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.elapsed.total_seconds() < 1 + SLACK
    answer = tight.publish("tight", b"x")
    assert answer.status_code == 503
    assert "alarm" in answer.json()["detail"]
    assert tight._status("/readyz") == 503
    assert tight.api.stop() == 0  # it does not wait for the broker to take it


# --- a full queue ------------------------------------------------------------------------------


def test_a_full_queue_refuses_until_it_drains(stack):
    small = stack(workers=1, queue_max_bytes="1MiB", publish_timeout=PUBLISH_TIMEOUT)
    small.workers[0].stop()
    kept, refusals = [], []
    for number in range(200):
        answer = small.publish("full", f"{number:06d}" + "x" * 20_000)
        if answer.status_code == 202:
            kept.append(answer.json()["id"])
        else:
            refusals.append(answer)
            if len(refusals) == 5:
                break
    assert 40 < len(kept) < 120
    for answer in refusals:
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["type"] == "urn:queue-appliance:problem:refused"
        assert answer.elapsed.total_seconds() < PUBLISH_TIMEOUT + SLACK
    assert small.publish("full", b"x", Idempotency_Key="k").status_code in (202, 503)
    small.workers[0].start()
    wait_until(
        lambda: small.publish("full", b"x", Idempotency_Key="k").status_code == 202,
        "it accepts again",
        30,
        small.logs,
    )
    small.wait_rows(len(kept) + 1, "full")
    wait_drained(small)
    rows = small.rows("full")
    assert [row["id"] for row in rows if row["body"] != "x"] == kept
    assert len(rows) == len(kept) + 1
    assert small.query("SELECT * FROM dead_letters") == []


# --- whichever starts first --------------------------------------------------------------------


@pytest.mark.slow
def test_processes_started_in_any_order_wait_for_one_another(stack):
    """API and worker before broker and schema. Waits for the broker's start."""
    late = stack(workers=2, start=False, publish_timeout=1, http=f"127.0.0.1:{free_port()}")
    for worker in late.workers:
        worker.start()
    late.api.start()
    wait_until(lambda: late._status("/healthz") == 200, "the API answers", 30, late.logs)
    assert late._status("/readyz") == 503
    began = time.monotonic()
    answer = late.publish("early", b"x", Idempotency_Key="k")
    assert answer.status_code == 503  # no broker, and for a key no database either
    began = time.monotonic()
    answer = late.publish("early", b"x")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert 0.9 < time.monotonic() - began < 1 + SLACK
    assert "nothing was kept" in answer.json()["detail"]
    late.broker.start()
    wait_accepting(late)
    assert late.publish("early", b"before the schema").status_code == 202
    time.sleep(0.5)
    assert depth(late) == 1  # no worker took what it can't store
    late.cli("migrate").check_returncode()
    late.wait_ready()
    (row,) = late.wait_rows(1, "early")
    assert row["body"] == "before the schema"
    assert all(process.running for process in late.processes)


# --- other AMQP clients ------------------------------------------------------------------------


def publish_foreign(stack, topic, body, **properties):
    with amqp(stack) as link:
        channel = link.channel()
        channel.confirm_delivery()
        channel.basic_publish(
            base.EXCHANGE, topic, body, pika.BasicProperties(**properties), mandatory=True
        )


def dead(stack, topic):
    return stack.query("SELECT * FROM dead_letters WHERE topic = ? ORDER BY seq", topic)


def test_a_message_that_another_amqp_client_publishes_is_stored(running):
    publish_foreign(running, "foreign", b"plain")
    publish_foreign(running, "foreign", b"\xff\0", content_type="application/x", type="theirs")
    publish_foreign(running, "foreign", b"not persistent", delivery_mode=1, headers={"a": {"b": 1}})
    rows = running.wait_rows(3, "foreign")
    assert [row["body"] for row in rows] == ["plain", b"\xff\0", "not persistent"]
    assert len({row["id"] for row in rows}) == 3


def test_another_clients_message_id_is_its_key(running):
    for _ in range(2):
        publish_foreign(running, "foreign-id", b"x", message_id="their id / 1")
    publish_foreign(running, "foreign-id", b"x", message_id="their id / 2")
    running.wait_rows(2, "foreign-id")
    publish_foreign(running, "foreign-id", b"y", message_id="their id / 1")
    wait_until(lambda: dead(running, "foreign-id"), "a dead letter", 30, running.logs)
    wait_drained(running)
    assert running.count("foreign-id") == 2
    assert [(d["body"], d["reason"]) for d in dead(running, "foreign-id")] == [(b"y", "conflict")]


OUR_HEADERS = {"received_at": "2026-01-02T03:04:05.678Z", "count": 1, "bytes": 1}
OUR_ID = "01890a5d-ac96-774b-bcce-b302099a80{:02x}"
POISON = [
    ("too-large", "too-large", b"x" * (2**20 + 1), {}),
    ("empty", "empty", b"", {}),
    ("BAD TOPIC", "bad-topic", b"x", {}),
    ("\u00e4", "bad-topic", b"x", {}),
    ("", "bad-topic", b"x", {}),
    ("no-headers", "undecodable", b"x", {"type": "appliance.message", "user_id": base.USER}),
    ("no-id", "undecodable", b"x", {
        "type": "appliance.pack", "headers": OUR_HEADERS, "user_id": base.USER,
    }),
    *(
        (f"garbage-{kind}-{number}", "undecodable", body, {
            "type": f"appliance.{kind}", "user_id": base.USER,
            "message_id": OUR_ID.format(number + 16 * (kind == "pack")),
            "headers": OUR_HEADERS,
        })
        for kind in ("pack", "lines")
        for number, body in enumerate(
            [b"", b"{", b"[]", b"[1]", b"null", b"\xff", b'{"a":"b"}', b'["a","b"]', b'["\\ud800"]']
        )
    ),
    ("count", "undecodable", b"x", {
        "type": "appliance.message", "user_id": base.USER,
        "message_id": OUR_ID.format(64),
        "headers": OUR_HEADERS | {"count": 2**62, "bytes": 2**62},
    }),
    ("odd-id", "undecodable", b"x", {
        "type": "appliance.message", "message_id": b"\xff\xfe", "headers": OUR_HEADERS,
        "user_id": base.USER,
    }),
]  # fmt: skip


@pytest.mark.parametrize("twice", [False, True], ids=["once", "again"])
def test_a_message_that_cannot_be_stored_becomes_a_dead_letter_and_the_queue_flows_on(
    running, twice
):
    before = [worker.pid for worker in running.workers]
    for topic, _, body, properties in POISON:
        publish_foreign(running, topic, body, **properties)
        if twice:
            publish_foreign(running, topic, body, **properties)
    assert running.publish("after-poison", b"x", Prefer="wait=20").status_code == 201
    for topic, reason, body, _ in POISON:
        found = dead(running, topic)
        assert {d["reason"] for d in found} == {reason}, topic
        assert {d["body"] for d in found} == {body}, topic
        assert running.count(topic) == 0
    assert [worker.pid for worker in running.workers if worker.running] == before


ODD = [
    ("odd-key", b"x", {"message_id": b"\xff\xfe"}),
    ("odd-type", b"x", {"type": b"\xff"}),
    ("long-key", b"x", {"message_id": "k" * 255}),
    ("nul-key", b"x", {"message_id": "a\0b"}),
    ("odd-header", b"x", {"headers": {"a": b"\xff" * 10, "b": [1, None, {"c": True}]}}),
    ("far-time", b"x", {"timestamp": 2**63}),
]


@pytest.mark.parametrize(("topic", "body", "properties"), ODD, ids=[o[0] for o in ODD])
def test_odd_properties_of_another_client_do_not_stop_the_queue(running, topic, body, properties):
    publish_foreign(running, topic, body, **properties)
    assert running.publish("after-odd", b"x", Prefer="wait=20").status_code == 201
    assert running.count(topic) == 1


def test_a_routing_key_that_is_no_text_does_not_stop_the_queue(running):
    publish_foreign(running, b"\xff\xfe", b"under no text")
    assert running.publish("after-odd-key", b"x", Prefer="wait=20").status_code == 201
    found = running.query("SELECT * FROM dead_letters WHERE body = ?", b"under no text")
    assert [d["reason"] for d in found] == ["bad-topic"]


def test_a_header_that_pika_cannot_read_does_not_stop_the_queue(running, monkeypatch):
    """A time in milliseconds where AMQP has seconds: a slip that clients make."""
    encode = pika.data.encode_value

    def encode_value(pieces, value):
        if value != "in milliseconds":
            return encode(pieces, value)
        pieces.append(b"T" + struct.pack(">Q", 1_767_323_045_678))
        return len(pieces[-1])

    monkeypatch.setattr(pika.data, "encode_value", encode_value)
    publish_foreign(running, "odd-time", b"x", headers={"sent": "in milliseconds"})
    assert running.publish("after-odd-time", b"x", Prefer="wait=20").status_code == 201
    assert [row["body"] for row in running.rows("odd-time")] == ["x"]
