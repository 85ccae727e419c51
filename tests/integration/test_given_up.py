"""What can't be stored, or what the broker gives up on, holds nothing up and is kept once."""

import contextlib
import json
import os
import random
import signal
import sqlite3
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pika
import pytest
from harness import wait_until
from load import amqp, depth, wait_drained

from appliance.broker import base

#: A worker whose database refuses some bodies in a way that nobody foresaw.
REFUSES = """
from appliance.cli import main
from appliance.store.sql.transaction import Transaction
add = Transaction._add
def refuse(self, envelope):
    if b"poison" in envelope.body:
        raise OverflowError("Python int too large to convert to SQLite INTEGER")
    return add(self, envelope)
Transaction._add = refuse
main()
"""
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


@pytest.fixture(scope="module")
def shared(module_stack):
    return module_stack(workers=1)


@pytest.fixture
def running(shared):
    """The stack of this module, its worker alive before and after each test."""
    yield shared
    if not shared.workers[0].running:
        shared.workers[0].start()
    shared.wait_ready()


def stop_worker(stack):
    wait_until(lambda: "broker connected" in stack.workers[0].log_now, "it consumes", 30)
    assert stack.workers[0].stop() == 0


def publish(stack, topic, *bodies, exchange=base.EXCHANGE, **properties):
    with amqp(stack) as link:
        channel = link.channel()
        channel.confirm_delivery()
        for body in bodies:
            channel.basic_publish(
                exchange, topic, body, pika.BasicProperties(**properties), mandatory=True
            )


def dead(stack, topic):
    return stack.query("SELECT * FROM dead_letters WHERE topic = ? ORDER BY seq", topic)


def wait_dead(stack, topic, count):
    wait_until(lambda: len(dead(stack, topic)) >= count, "dead letters", 60, stack.logs)
    return dead(stack, topic)


def waiting(stack, queue):
    with amqp(stack) as link:
        return link.channel().queue_declare(queue, passive=True).method.message_count


def reject(stack, count):
    """Take envelopes from the queue as a consumer that wants none of them."""
    with amqp(stack) as link:
        channel = link.channel()
        channel.basic_qos(prefetch_count=count)
        for number, (method, _, _) in enumerate(channel.consume(base.QUEUE), 1):
            channel.basic_reject(method.delivery_tag, requeue=False)
            if number == count:
                return


def run_worker(stack, code):
    return subprocess.Popen(
        [sys.executable, "-c", code, "worker"],
        env=stack.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


# --- what the broker gives up on


def test_a_message_that_expired_in_the_queue_is_a_dead_letter_that_can_be_sent_again(running):
    stop_worker(running)
    publish(running, "expired", b"one", b"two", expiration="1")
    publish(running, "expired", b"three", message_id="theirs", expiration="1")
    wait_until(lambda: waiting(running, base.DEAD) == 3, "they expired", 60, running.logs)
    running.workers[0].start()
    letters = wait_dead(running, "expired", 3)
    assert [letter["body"] for letter in letters] == [b"one", b"two", b"three"]
    assert {letter["reason"] for letter in letters} == {"broker-expired"}
    assert running.count("expired") == 0
    wait_until(lambda: waiting(running, base.DEAD) == 0, "they are acknowledged", 30)
    ids = [letter["id"] for letter in letters]
    done = running.cli("dead", "redrive", "--reason", "broker-expired")
    assert done.returncode == 0, done.stderr
    assert [row["id"] for row in running.wait_rows(3, "expired")] == ids  # their own
    assert dead(running, "expired") == []


def test_each_message_of_a_batch_is_a_letter_of_its_own(running):
    stop_worker(running)
    answer = running.publish("batch", b"one\ntwo\n\xff\n", params={"split": "lines"}).json()
    lines = running.publish("batch", b"three\nfour", params={"split": "lines"}).json()
    wait_until(lambda: depth(running) >= 2, "both are in the queue", 30)
    reject(running, 2)
    running.workers[0].start()
    letters = wait_dead(running, "batch", 5)
    assert [letter["body"] for letter in letters] == [b"one", b"two", b"\xff", b"three", b"four"]
    assert [letter["id"] for letter in letters] == answer["ids"] + lines["ids"]
    assert {letter["reason"] for letter in letters} == {"broker-rejected"}
    state = running.get(f"/v1/messages/{lines['ids'][0]}").json()
    assert (state["status"], state["reason"]) == ("dead", "broker-rejected")
    assert running.cli("dead", "redrive", "--topic", "batch").returncode == 0
    rows = running.wait_rows(5, "batch")
    assert [row["id"] for row in rows] == answer["ids"] + lines["ids"]
    assert running.query("SELECT sum(missing) FROM sources")[0][0] == 0


def test_a_worker_killed_before_it_acknowledges_keeps_each_letter_once(running):
    stop_worker(running)
    publish(running, "once", *(b"%d" % n for n in range(20)), expiration="1", message_id=None)
    wait_until(lambda: waiting(running, base.DEAD) == 20, "they expired", 60, running.logs)
    for _ in range(2):
        dying = run_worker(running, STORES_AND_DIES)
        assert dying.wait(60) == -signal.SIGKILL
    running.workers[0].start()
    wait_until(lambda: waiting(running, base.DEAD) == 0, "they are acknowledged", 60)
    wait_drained(running)
    bodies = {letter["body"] for letter in dead(running, "once")}
    assert bodies == {b"%d" % n for n in range(20)}


def test_ours_killed_before_it_acknowledges_keeps_each_letter_exactly_once(running):
    stop_worker(running)
    ids = [running.publish("ours-once", b"%d" % n).json()["id"] for n in range(20)]
    wait_until(lambda: depth(running) >= 20, "they are in the queue", 30)
    reject(running, 20)
    for _ in range(2):
        dying = run_worker(running, STORES_AND_DIES)
        assert dying.wait(60) == -signal.SIGKILL
    running.workers[0].start()
    letters = wait_dead(running, "ours-once", 20)
    wait_until(lambda: waiting(running, base.DEAD) == 0, "they are acknowledged", 60)
    assert (
        [letter["id"] for letter in dead(running, "ours-once")]
        == ids
        == [letter["id"] for letter in letters]
    )


def test_a_message_stored_and_then_given_up_is_no_dead_letter(running):
    """Killed between commit and acknowledgement, the worker leaves it in the queue."""
    stop_worker(running)
    assert running.publish("stored", b"x").status_code == 202
    dying = run_worker(running, STORES_AND_DIES)
    assert dying.wait(60) == -signal.SIGKILL
    assert running.count("stored") == 1
    wait_until(lambda: depth(running) == 1, "it is back in the queue", 30)
    reject(running, 1)
    wait_until(lambda: waiting(running, base.DEAD) == 1, "it is given up", 30, running.logs)
    running.workers[0].start()
    wait_until(lambda: waiting(running, base.DEAD) == 0, "it is acknowledged", 60)
    wait_drained(running)
    assert running.count("stored") == 1
    assert dead(running, "stored") == []


def test_a_foreign_poison_that_expired_has_its_own_reason(running):
    stop_worker(running)
    publish(running, "expired-empty", b"", expiration="1")
    wait_until(lambda: waiting(running, base.DEAD) == 1, "it expired", 60, running.logs)
    running.workers[0].start()
    (letter,) = wait_dead(running, "expired-empty", 1)
    assert letter["reason"] == "empty"
    assert "time to live" in letter["error"]


@pytest.mark.parametrize("queue", [base.DEAD, base.QUEUE])
def test_a_queue_that_is_deleted_is_made_again_and_stored_from(running, queue):
    with amqp(running) as link:
        link.channel().queue_delete(queue)

    def died():
        try:
            publish(running, "made-again", queue.encode(), exchange=base.DEAD)
        except pika.exceptions.AMQPError:
            return False
        return any(d["body"] == queue.encode() for d in dead(running, "made-again"))

    wait_until(died, "what dies is stored as a dead letter", 90, running.logs)
    assert running.publish("after", b"x", Prefer="wait=30").status_code == 201


def test_the_brokers_death_loses_nothing_that_was_given_up(running):
    stop_worker(running)
    ids = [running.publish("died", b"%d" % n).json()["id"] for n in range(30)]
    wait_until(lambda: depth(running) >= 30, "they are in the queue", 30)
    reject(running, 30)
    running.broker.process.kill()
    running.broker.start()
    running.broker.wait()
    running.workers[0].start()
    letters = wait_dead(running, "died", 30)
    assert sorted(letter["id"] for letter in letters) == ids
    wait_until(lambda: waiting(running, base.DEAD) == 0, "they are acknowledged", 60)
    assert len(dead(running, "died")) == 30


# --- what the store refuses


def test_a_batch_that_the_database_refuses_is_dead_and_other_envelopes_are_stored(running):
    stop_worker(running)
    running.publish("refused", b"before")
    running.publish("refused", b"a\npoison\n\xff", params={"split": "lines"})
    running.publish("refused", b"after")
    worker = run_worker(running, REFUSES)
    try:
        assert [row["body"] for row in running.wait_rows(2, "refused")] == ["before", "after"]
        wait_drained(running)
        assert worker.poll() is None
    finally:
        worker.kill()
        worker.wait()
    letters = dead(running, "refused")
    assert {letter["reason"] for letter in letters} == {"unstorable"}
    assert "OverflowError" in letters[0]["error"]
    assert str(running.data) not in letters[0]["error"]
    assert [letter["body"] for letter in letters] == [b"a", b"poison", b"\xff"]


def test_a_rule_that_an_operator_adds_makes_dead_letters_and_no_stop(running):
    other = sqlite3.connect(running.database, isolation_level=None, timeout=30)
    other.execute(
        "CREATE TRIGGER no_numbers BEFORE INSERT ON messages WHEN new.body = '13' "
        "BEGIN SELECT raise(ABORT, 'no such number here'); END"
    )
    try:
        pid = running.workers[0].pid
        body = b"\n".join(b"%d" % n for n in range(20))
        for number in range(20):
            assert running.publish("rule", b"%d" % number).status_code == 202
        assert running.publish("rules", body, params={"split": "lines"}).status_code == 202
        assert running.publish("rule", b"last", Prefer="wait=30").status_code == 201
        (letter,) = dead(running, "rule")
        assert (letter["body"], letter["reason"]) == (b"13", "unstorable")
        assert "no such number here" in letter["error"]
        assert [letter["body"] for letter in dead(running, "rules")] == [b"13"]
        assert (
            "confirmed envelopes missing" not in running.workers[0].log
        )  # nothing is missing by its number
        assert running.workers[0].pid == pid
        assert running.workers[0].running
    finally:
        other.execute("DROP TRIGGER no_numbers")
        other.close()
    assert running.cli("dead", "redrive", "--reason", "unstorable").returncode == 0
    wait_drained(running)
    assert (running.count("rule"), running.count("rules")) == (21, 20)


def test_single_messages_that_share_an_envelope_die_one_by_one(running):
    """Connections that send at once share envelopes; a refused message takes none along."""
    other = sqlite3.connect(running.database, isolation_level=None, timeout=30)
    other.execute(
        "CREATE TRIGGER only_json BEFORE INSERT ON messages WHEN new.topic = 'share' "
        "AND NOT json_valid(new.body) BEGIN SELECT raise(ABORT, 'not JSON'); END"
    )
    try:
        with ThreadPoolExecutor(20) as pool:
            bodies = [b"not JSON" if n in {100, 300, 500} else b"[%d]" % n for n in range(600)]
            answers = list(pool.map(lambda body: running.publish("share", body), bodies))
        assert {answer.status_code for answer in answers} == {202}
        wait_drained(running)
        wait_until(lambda: running.count("share") == 597, "the good ones are rows", 60)
        letters = dead(running, "share")
        assert [letter["body"] for letter in letters] == [b"not JSON"] * 3
        rows = {row["id"] for row in running.rows("share")}
        ids = {answer.json()["id"] for answer in answers}
        assert rows | {letter["id"] for letter in letters} == ids
    finally:
        other.execute("DROP TRIGGER only_json")
        other.close()


@pytest.mark.parametrize(
    ("change", "undo"),
    [
        (
            "ALTER TABLE messages RENAME COLUMN body TO payload",
            "ALTER TABLE messages RENAME COLUMN payload TO body",
        ),
        (
            "CREATE TRIGGER closed BEFORE INSERT ON messages BEGIN SELECT raise(ABORT, 'no'); END",
            "DROP TRIGGER closed",
        ),
    ],
)
def test_tables_that_take_nothing_hold_every_message_and_are_told(running, change, undo):
    topic = "held-trigger" if "TRIGGER" in change else "held-column"
    assert running.publish(topic, b"before", Prefer="wait=30").status_code == 201
    letters = len(running.query("SELECT 1 FROM dead_letters"))
    other = sqlite3.connect(running.database, isolation_level=None, timeout=30)
    other.execute(change)
    try:
        for number in range(3):
            assert running.publish(topic, b"%d" % number).status_code == 202
        words = "the database's tables were changed so that they take no message"
        wait_until(
            lambda: any(words in reason for reason in running.get("/readyz").json()["reasons"]),
            "not ready, and why",
            60,
            running.logs,
        )
        assert running.get("/readyz").status_code == 503
        assert str(running.data) not in running.get("/readyz").text
        wait_until(lambda: "storing failed" in running.workers[0].log, "the log says so", 60)
        checks = json.loads(running.cli("doctor", "--json").stdout)
        shown = json.dumps(checks)
        assert "a worker holds what it can't store" in shown
        assert b"can't store" in running.cli("status").stdout
    finally:
        other.execute(undo)
        other.close()
    running.wait_rows(4, topic)
    bodies = [row["body"] for row in running.rows(topic)]
    assert bodies == ["before", "0", "1", "2"]
    assert len(running.query("SELECT 1 FROM dead_letters")) == letters
    running.wait_ready()


# --- whatever a client makes up


def test_a_batch_whose_ids_would_grow_too_long_is_undecodable(running):
    publish(
        running, "long-ids", b'["a","b"]', type="appliance.lines", user_id=base.USER,
        message_id="01890a5d-ac96-774b-bcce-b302ffffffff",
        headers={"received_at": "2026-01-02T03:04:05.678Z", "count": 2, "bytes": 2},
    )  # fmt: skip
    (letter,) = wait_dead(running, "long-ids", 1)
    assert letter["reason"] == "undecodable"


def odd_value(source, depth=0):
    """Return a header's value of any type that AMQP has, and some that pika's reader trips over."""
    choices = [
        lambda: None,
        lambda: source.random() < 0.5,
        lambda: source.randint(-(2**63), 2**63 - 1),
        lambda: source.randint(-5, 5),
        lambda: source.choice([0, 1, 2**31, -1, 2**62]),
        lambda: Raw(b"d" + struct.pack(">d", float("nan"))),
        lambda: source.randbytes(source.randint(0, 300)),
        lambda: "\u00e4" * source.randint(0, 100),
        lambda: Raw(b"T" + struct.pack(">Q", source.getrandbits(63))),
        lambda: Raw(b"D" + struct.pack(">Bi", 255, source.randint(-(2**31), 2**31 - 1))),
        lambda: Raw(b"d" + source.randbytes(8)),
        lambda: Raw(b"S" + struct.pack(">I", 3) + b"\xff\xfe\xfd"),
    ]
    if depth < 3:
        choices += [
            lambda: [odd_value(source, depth + 1) for _ in range(source.randint(0, 4))],
            lambda: {f"k{n}": odd_value(source, depth + 1) for n in range(source.randint(0, 4))},
        ]
    return source.choice(choices)()


class Raw:
    """A value's bytes on the wire, type included."""

    def __init__(self, encoded):
        self.encoded = encoded


NAMES = ["received_at", "count", "bytes", "ledger", "x-death", "x", "\u00e4"]
IDS = [
    None,
    "",
    "theirs",
    b"\xff\xfe",
    "a\0b",
    "k" * 255,
    *(f"01890a5d-ac96-774b-bcce-b302099a8{n:03x}" for n in range(40)),
]
BODIES = [
    b"", b"x", b"\xff\0", b"[]", b'["a"]', b'["a","b"]', b'["a",null]', b"[[1]]", b'{"a":1}', b"{",
    b'["\\ud800"]', b'["\\u0000"]', b"['a']", b'[["x","y","z"]]', b"[" * 3000,
    b'[["01890a5d-ac96-774b-bcce-b302099a8057","2026-01-02T03:04:05.678Z","text"]]',
    b'[["01890a5d-ac96-774b-bcce-b302099a8058","2026-01-02T03:04:05.678Z",null,"AP8="]]',
    b'[["01890a5d-ac96-774b-bcce-b302099a8059","2026-01-02T03:04:05.678Z",{"a":1}]]',
    b'[["01890a5d-ac96-774b-bcce-b302099a8060","9999-99-99T99:99:99.999Z",null,7]]',
    b'[["fuzz","01890a5d-ac96-774b-bcce-b302099a8061","2026-01-02T03:04:05.678Z","text"]]',
    b'[["BAD","01890a5d-ac96-774b-bcce-b302099a8062","2026-01-02T03:04:05.678Z","text"]]',
    b'["a", 1e999]', b'["a", 18446744073709551616]', b"null", b'"a"', b"x" * (2**20 + 1),
]  # fmt: skip
TOPICS = ["fuzz", "fuzz.other", "", "BAD", "a" * 100, "a" * 101, "\u00e4", b"\xff\xfe", "a\0b"]
TYPES = [None, "", "theirs", b"\xff", "appliance.message", "appliance.pack", "appliance.lines",
         "appliance.mixed", "appliance.report", "appliance.other"]  # fmt: skip
LEDGERS = [
    '["0123456789abcdef",1,0,[]]',
    '["0123456789abcdef",9007199254740993,9007199254740993,[[1,9007199254740993]]]',
    '["0123456789abcdef",-1,-1,[]]',
    "[" * 5000,
    json.dumps(["f" * 16, 3, 2, [[2, 1]]]),
]


def odd_headers(source):
    headers = {name: odd_value(source) for name in source.sample(NAMES, source.randint(0, 4))}
    if source.random() < 0.6:
        headers |= {"received_at": "2026-01-02T03:04:05.678Z", "count": source.choice([0, 1, 2, 3])}
        headers["bytes"] = source.choice([0, 1, 2, 3, 2**40])
    if source.random() < 0.3:
        headers["ledger"] = source.choice(LEDGERS)
    return headers


@pytest.mark.parametrize("seed", [os.environ.get("FUZZ_SEED", "1"), "2"])
def test_a_message_that_another_client_makes_up_is_one_row_and_holds_nothing_up(
    running, monkeypatch, seed
):
    """A thousand messages at random: each becomes one row or one letter, none stops the worker."""
    source = random.Random(seed)
    encode = pika.data.encode_value

    def encode_value(pieces, value):
        if not isinstance(value, Raw):
            return encode(pieces, value)
        pieces.append(value.encoded)
        return len(value.encoded)

    monkeypatch.setattr(pika.data, "encode_value", encode_value)
    wait_until(lambda: running.workers[0].running, "a worker runs", 30)
    pid, told = running.workers[0].pid, len(running.workers[0].log)
    total = "SELECT (SELECT count(*) FROM messages) + (SELECT count(*) FROM dead_letters)"
    before = running.query(total)[0][0]
    sent = 0
    link = None
    for _ in range(1000):
        if link is None:
            link = amqp(running)
            channel = link.channel()
            channel.confirm_delivery()
        message_id = source.choice(IDS)
        if source.random() < 0.8:
            message_id = None  # else many are the same message again
        kind = source.choice(TYPES)
        properties = pika.BasicProperties(
            type=kind,
            user_id=source.choice([None, base.USER]),
            message_id=message_id,
            headers=odd_headers(source),
            timestamp=source.choice([None, 0, 2**63]),
            content_type=source.choice([None, "", b"\xff", "x" * 255]),
            priority=source.choice([None, 0, 255]),
            delivery_mode=source.choice([None, 1, 2]),
            expiration=source.choice([None] * 9 + ["0"]),
            reply_to=source.choice([None, b"\xfe"]),
        )
        topic, body = source.choice(TOPICS), source.choice(BODIES)
        try:
            channel.basic_publish(base.EXCHANGE, topic, body, properties, mandatory=True)
        except pika.exceptions.AMQPError:  # the broker itself can't read it, and lets us go
            with contextlib.suppress(pika.exceptions.AMQPError):
                link.close()
            link = None
        else:
            sent += message_id is None and kind != "appliance.report"
    if link is not None:
        link.close()
    assert sent > 300
    assert running.publish("after-fuzz", b"x", Prefer="wait=60").status_code == 201
    wait_until(lambda: waiting(running, base.DEAD) == 0, "all is taken", 60, running.logs)
    wait_drained(running)
    assert running.query(total)[0][0] - before - 1 >= sent  # nothing was lost on the way
    assert running.workers[0].pid == pid
    assert running.workers[0].running
    log = running.workers[0].log[told:]
    assert "Traceback" not in log
    assert "no broker" not in log
