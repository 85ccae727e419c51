"""`appliance deliver` brings stored messages to real receivers, whatever these do.

It needs the database and nothing else, so these tests store messages themselves.
"""

import signal
import ssl
import threading
import time
from dataclasses import replace
from pathlib import Path

import pysqlite3
import pytest
import standardwebhooks
import svix
from certificates import make_certificate
from harness import Process, free_port, wait_until
from name_server import NameServer, OwnNames
from outbound import DEED, SECRET, Out
from receivers import Reply, receiving, reset
from store_contents import IDS, many, one

from appliance import config as configuration
from appliance.auth.signatures import standard
from appliance.deliver.stock import MOST_UNFINISHED
from appliance.metrics import board
from appliance.model import timestamps
from appliance.model.wire import single
from appliance.store import open_store
from appliance.store.endpoint_rows import GIVEN_UP, GONE, PAUSED, WAITING, EndpointRow
from appliance.store.sqlite.database import connect


@pytest.fixture
def make(tmp_path):
    made = []

    def make(**settings):
        made.append(Out(tmp_path, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def out(make):
    out = make()
    out.process.start()
    return out


def until_said(out, event):
    wait_until(lambda: f'"{event}"' in out.process.log, event, more=lambda: out.process.log)


def test_a_message_arrives_as_it_came_and_both_libraries_verify_it(out):
    body, meta = b'{"a": 1,  "b":"\xc3\xa9"}', '{"via":"http","headers":{"x-kind":"order","b":"c"}}'
    with receiving() as receiver:
        own = {"authorization": "Bearer k"}
        out.endpoint(receiver.url + "?x=%20", own=own, headers=["x-kind", "x-none"])
        envelope = replace(
            single("orders.eu", IDS.new(), "2026-01-02T03:04:05.678Z", body),
            content_type="application/json; charset=utf-8",
            meta=meta,
        )
        out.writer.store([envelope])
        row = out.settled()
    (got,) = receiver.journal
    assert (got.path, got.body, got.id) == ("/hook?x=%20", body, envelope.id)
    assert got.topic == "orders.eu"
    assert got.headers["content-type"] == "application/json; charset=utf-8"
    assert got.headers["authorization"] == "Bearer k"
    assert got.headers["user-agent"].startswith("queue-appliance/")
    assert got.headers["x-kind"] == "order"
    assert "b" not in got.headers
    assert standardwebhooks.Webhook(SECRET).verify(body, got.headers) == {"a": 1, "b": "é"}
    svix.Webhook(SECRET).verify(body, got.headers)  # raises where it is none
    assert (row.delivered, row.failed, row.cursor) == (1, 0, 1)
    (attempt,) = out.attempts()
    assert (attempt.status, attempt.error, attempt.message_id) == (204, "", envelope.id)


def test_an_endpoint_gets_what_its_filter_wants(out):
    with receiving() as receiver:
        out.endpoint(receiver.url, topics=("orders.*",), where=("total>=10",))
        out.put(b'{"total":9}', b'{"total":10}', b"text", topic="orders.eu")
        out.put(b'{"total":99}', topic="other")
        assert out.settled().delivered == 1
    assert receiver.bodies == [b'{"total":10}']


def test_an_endpoint_begins_with_what_is_stored_from_then_on(out):
    out.put(b"before")
    with receiving() as receiver:
        out.endpoint(receiver.url, start=None)
        out.put(b"after")
        out.settled()
    assert receiver.bodies == [b"after"]


def test_a_message_that_fails_is_tried_again_and_holds_no_other_up(out):
    failing = {b"2"}
    with receiving(lambda got: Reply(500 if got.body in failing else 200, body=b"why")) as receiver:
        out.endpoint(receiver.url, concurrency=1)
        out.put(b"1", b"2", b"3")
        (waiting,) = wait_until(lambda: out.due(WAITING), "the failure is kept")
        wait_until(lambda: out.row().delivered == 2, "the others are delivered")
        assert out.row().cursor == 3
        assert (waiting.attempts, waiting.status, waiting.error) == (1, 500, "answered 500")
        assert 3 < waiting.due_at - time.time() < 7
        failing.clear()
        out.hurry()
        assert out.settled().delivered == 3
    assert receiver.bodies == [b"1", b"2", b"3", b"2"]
    assert receiver.ids[1] == receiver.ids[3]
    attempts = [(each.seq, each.attempt, each.status, each.answer) for each in out.attempts()]
    assert attempts[0] == (2, 2, 200, "why")


def test_a_message_without_time_left_is_given_up_and_redriven(out):
    status = [500]
    with receiving(lambda _: Reply(status[0])) as receiver:
        out.endpoint(receiver.url, lifetime=0)
        out.put(b"1")
        (row,) = wait_until(lambda: out.due(GIVEN_UP), "given up")
        until_said(out, "delivery given up")
        assert out.row().given_up == 1
        status[0] = 204
        assert out.store.endpoints.redrive("shop", [row.id], DEED) == 1
        assert out.settled().delivered == 1
        found = wait_until(lambda: _metrics(out)("delivered") and _metrics(out), "it is counted")
        assert (found("failed"), found("given-up"), found("gone")) == (1, 1, 0)
    assert out.due() == []
    assert len(receiver.journal) == 2


def _metrics(out):
    totals = board.totals(out.config)
    return lambda outcome: totals.counters.get(f"deliveries_total:{outcome}")


def test_a_broken_endpoint_is_tried_with_one_message_at_a_time(out):
    status = [503]
    with receiving(lambda _: Reply(status[0])) as receiver:
        out.endpoint(receiver.url)
        out.put(*(b"%d" % number for number in range(300)))
        row = wait_until(lambda: (row := out.row()).broken_at and row, "the breaker opens")
        until_said(out, "endpoint failing")
        assert row.failures >= 5
        assert row.retry_at > time.time() + 2
        tried = len(receiver.journal)
        assert tried < 20  # those that were under way
        assert len(out.due()) < 20
        out.hurry()
        wait_until(lambda: out.row().broken_at, "it opens again")
        status[0] = 200
        out.hurry()
        assert out.settled().delivered == 300
    assert set(receiver.bodies) == {b"%d" % number for number in range(300)}
    assert out.row().broken_at is None


def test_the_breaker_closes_by_itself_and_heeds_retry_after(out):
    well = threading.Event()

    def answer(_):
        return Reply(200) if well.is_set() else Reply(429, (("Retry-After", "1"),))

    with receiving(answer) as receiver:
        out.endpoint(receiver.url)
        began = time.monotonic()
        out.put(*(b"%d" % number for number in range(20)))
        wait_until(lambda: out.row().broken_at, "the breaker opens")
        assert out.row().trouble == "answered 429"
        well.set()
        wait_until(lambda: out.row().broken_at is None, "it closes")
        assert time.monotonic() - began > 1.0
        until_said(out, "endpoint well again")
        out.hurry()
        assert out.settled().delivered == 20
    assert len(receiver.journal) < 45


def test_an_endpoint_that_answers_410_is_paused_with_its_reason(out):
    with receiving(lambda _: Reply(410)) as receiver:
        out.endpoint(receiver.url)
        out.put(b"1", b"2")
        row = wait_until(lambda: (row := out.row()).state == PAUSED and row, "it is paused")
        assert row.reason == "it answered 410: it wants no messages any more"
        until_said(out, "endpoint paused")
        receiver.answering = lambda _: Reply(200)
        out.hurry()
        assert out.settled().delivered == 2


def test_answers_of_hostile_receivers_are_bounded_and_named(out):
    huge = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + 300 * (
        b"4000\r\n" + 0x4000 * b"x" + b"\r\n"
    )
    heads = b"HTTP/1.1 200 OK\r\n" + 3000 * b"X-Long: 0123456789\r\n"
    answers = {
        b"reset": reset,
        b"huge": lambda _: Reply(raw=huge),
        b"heads": lambda _: Reply(raw=heads),
        b"no http": lambda _: Reply(raw=b"220 smtp.example ready\r\n"),
        b"empty": lambda _: Reply(raw=b""),
        b"until end": lambda _: Reply(raw=b"HTTP/1.0 202 Fine\r\n\r\nsome words"),
        b"early": lambda _: Reply(raw=b"HTTP/1.1 103 Hint\r\n\r\nHTTP/1.1 299 Ok\r\n\r\n"),
        b"nul": lambda _: Reply(400, body=b"a\0b\xff"),
        b"redirect": lambda _: Reply(302, (("Location", "http://127.0.0.1:1/"),)),
    }
    with receiving(lambda got: answers[got.body](got)) as receiver:
        for place, name in enumerate(answers):
            out.endpoint(receiver.url, f"e{place}", topics=(f"t{place}",), lifetime=0)
            out.put(name, topic=f"t{place}")
        wait_until(lambda: len(out.attempts(None)) == len(answers), "an attempt each")
    found = {
        name: next((e.status, e.error) for e in out.attempts(None) if e.topic == f"t{place}")
        for place, name in enumerate(answers)
    }
    assert found == {
        b"reset": (None, "the connection ended within the answer"),
        b"huge": (200, ""),
        b"heads": (None, "the head of the answer has more than 32768 bytes"),
        b"no http": (None, found[b"no http"][1]),
        b"empty": (None, "the connection ended before an answer"),
        b"until end": (202, ""),
        b"early": (299, ""),
        b"nul": (400, "answered 400"),
        b"redirect": (302, "answered 302"),
    }
    assert found[b"no http"][1].startswith("the answer is not HTTP")
    assert len(receiver.journal) == len(answers)  # a redirect is not followed
    shown = {each.topic: each.answer for each in out.attempts(None)}
    assert shown["t7"] == "a�b�"
    assert len(shown["t1"]) == 500


def test_an_endpoint_that_is_slow_is_not_waited_for(out):
    ended = threading.Event()

    def answer(got):
        if got.body == b"slow":
            ended.wait(20)
        return Reply(200)

    with receiving(answer) as receiver:
        out.endpoint(receiver.url, timeout=1)
        out.put(b"slow", *(b"quick %d" % number for number in range(50)))
        wait_until(lambda: out.row().delivered == 50, "the quick ones are delivered")
        (waiting,) = wait_until(lambda: out.due(WAITING), "the slow one is kept")
        assert waiting.error == "no answer within 1 s"
        ended.set()
        out.hurry()
        out.settled()
    assert receiver.bodies.count(b"slow") == 2


def test_order_holds_within_a_topic_and_a_failure_holds_up_its_topic_alone(out):
    failing = {b"a3"}
    with receiving(lambda got: Reply(500 if got.body in failing else 200)) as receiver:
        out.endpoint(receiver.url, ordered=True)
        for number in range(10):
            for topic in "abc":
                out.put(f"{topic}{number}".encode(), topic=topic)
        wait_until(lambda: out.row().delivered == 23, "the other topics are delivered")
        (lane,) = out.store.deliveries.lanes(out.row().id)
        assert (lane.topic, lane.attempts, lane.error) == ("a", 1, "answered 500")
        assert out.row().cursor == 30
        out.put(b"a10", b"a11", topic="a")
        out.process.stop()  # the lane is kept
        failing.clear()
        out.hurry()
        out.process.start()
        assert out.settled().delivered == 32
    for topic, last in (("a", 12), ("b", 10), ("c", 10)):
        got = [each.body.decode() for each in receiver.journal if each.topic == topic]
        assert list(dict.fromkeys(got)) == [f"{topic}{number}" for number in range(last)]
    assert receiver.bodies.count(b"a3") == 2
    assert len(receiver.journal) == 33


def test_a_message_that_was_deleted_before_its_delivery_is_counted(out):
    with receiving(lambda _: Reply(500)) as receiver:
        out.endpoint(receiver.url)
        out.put(b"1")
        (waiting,) = wait_until(lambda: out.due(WAITING), "the failure is kept")
        _delete(out, waiting.seq)
        out.hurry()
        (gone,) = wait_until(lambda: out.due(GONE), "its row says so")
    assert gone.seq == waiting.seq
    assert out.row().gone == 1
    assert out.settled().cursor == 1
    until_said(out, "message gone before its delivery")


@pytest.mark.parametrize("ordered", [False, True])
def test_a_message_that_is_over_by_its_turn_is_passed_over(out, ordered):
    """They were read before they were over, and waited in the process for the receiver."""
    at = time.time() + 4.0
    ends = timestamps.timestamp(at)

    def answer(_):  # asked again, the receiver is well, and the messages are over
        return Reply(429, (("Retry-After", "5"),)) if time.time() < at else Reply(200)

    with receiving(answer) as receiver:
        out.endpoint(receiver.url, ordered=ordered)
        meta = f'{{"expires_at":"{ends}"}}'
        envelope = many([b"over %d" % number for number in range(30)], "t")
        object.__setattr__(envelope, "meta", meta)
        object.__setattr__(envelope, "expires_at", ends)
        out.writer.store([envelope])
        out.put(b"lasting")
        wait_until(lambda: out.row().broken_at, "the breaker opens")
        wait_until(lambda: time.time() > at, "the messages are over")
        tried = len(receiver.journal)
        if ordered:  # the topic's next attempt is half a minute away
            out.hurry()
        wait_until(lambda: out.row().broken_at is None, "the breaker closes")
        out.hurry()
        assert out.settled().delivered == 1
        assert set(receiver.bodies[tried:]) == {b"lasting"}


def _delete(out, seq):
    with pysqlite3.connect(out.store.location) as connection:
        connection.execute("DELETE FROM messages WHERE seq = ?", (seq,))
    connection.close()


def test_the_secrets_of_an_endpoint_can_be_replaced(out):
    new = standard.new_secret()
    with receiving() as receiver:
        out.endpoint(receiver.url)
        out.put(b"1")
        out.settled()
        out.store.endpoints.add_secret("shop", new, None, DEED)
        wait_until(lambda: _signatures(out, receiver) == 2, "both sign")
    got = receiver.journal[-1]
    for secret in (SECRET, new):
        assert standardwebhooks.Webhook(secret).verify(got.body, got.headers) == "next"
    older = {**got.headers, "webhook-id": "another"}
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(new).verify(got.body, older)


def _signatures(out, receiver):
    out.put(b'"next"')
    out.settled()
    return len(receiver.journal[-1].headers["webhook-signature"].split())


def test_a_private_address_is_refused_however_it_is_written(make):
    out = make(APPLIANCE_DELIVER_ALLOW="")
    out.process.start()
    with receiving() as receiver:
        for place, host in enumerate(("127.0.0.1", "localhost", "[::ffff:127.0.0.1]")):
            out.endpoint(f"http://{host}:{receiver.port}/", f"e{place}", lifetime=0)
        out.put(b"1")
        wait_until(lambda: len(out.attempts(None)) == 3, "an attempt each")
    assert not receiver.connections
    for attempt in out.attempts(None):
        assert "is the appliance's own machine; APPLIANCE_DELIVER_ALLOW" in attempt.error


def test_the_address_that_was_checked_is_the_one_connected_to(make, tmp_path):
    """The name stands for an allowed address when it is asked for, and for another one later."""
    out = make(APPLIANCE_DELIVER_ALLOW="127.77.0.1")
    with NameServer() as server, receiving(address="127.77.0.1") as allowed:
        names = OwnNames(tmp_path, server)
        out.process.command = [*names.before, *out.process.command]
        with receiving(address="127.77.0.2", port=allowed.port) as forbidden:
            server.known["shop.example"] = "127.77.0.1"
            out.endpoint(f"http://shop.example:{allowed.port}/", lifetime=0)
            out.process.start()
            out.put(b"1")
            out.settled()
            server.known["shop.example"] = "127.77.0.2"
            out.process.stop()
            out.process.start()
            out.put(b"2")
            wait_until(lambda: out.due(GIVEN_UP), "refused")
    assert allowed.bodies == [b"1"]
    assert not forbidden.connections
    assert "127.77.0.2 is the appliance's own machine" in out.attempts()[0].error


def test_a_certificate_is_checked(make, tmp_path):
    cert, key = make_certificate(tmp_path / "tls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with receiving() as receiver:
        receiver._server.socket = context.wrap_socket(receiver._server.socket, server_side=True)
        out = make()
        out.process.start()
        out.endpoint(f"https://localhost:{receiver.port}/", lifetime=0)
        out.put(b"1")
        (row,) = wait_until(lambda: out.due(GIVEN_UP), "refused")
        assert row.error.startswith("the certificate is not accepted")
        out.process.stop()
        out.process.env["SSL_CERT_FILE"] = str(cert)
        out.process.start()
        out.put(b"2")
        wait_until(lambda: out.row().delivered == 1, "it is trusted", more=lambda: out.process.log)
    assert receiver.bodies == [b"2"]


def test_the_process_is_idle_without_endpoints(out):
    wait_until(lambda: "no endpoint" in _status(out), "it is ready")
    loaded = _maps(out)
    assert "pysqlite3" in loaded
    assert "uvloop" not in loaded
    assert "httptools" not in loaded
    out.endpoint(f"http://127.0.0.1:{free_port()}/")
    wait_until(lambda: "1 endpoint" in _status(out), "it begins")


def _status(out):
    folder = out.process.env["APPLIANCE_DATA"]
    files = list(Path(folder, "run", "pulse").glob(f"deliver-{out.process.pid}*"))
    return files[0].read_text() if files else ""


def _maps(out):
    return Path(f"/proc/{out.process.pid}/maps").read_text()


@pytest.mark.parametrize("ordered", [False, True])
def test_a_kill_repeats_messages_and_skips_none(out, ordered):
    """Four kills while messages are stored; some of them fail now and then."""
    count = [0]

    def answer(_):
        count[0] += 1
        return Reply(500 if count[0] % 97 == 0 else 200)

    topics = [f"t{number}" for number in range(7)]
    stop, stored = threading.Event(), []

    def store():
        number = 0
        while not stop.is_set():
            # Never so far ahead that a machine with other work could not deliver it all in time.
            if len(stored) - len(set(receiver.ids)) < 400:
                batch = [one(b"%d" % (number + i), topics[(number + i) % 7]) for i in range(20)]
                out.writer.store(batch)
                stored.extend(each.id for each in batch)
                number += 20
            time.sleep(0.02)

    with receiving(answer) as receiver:
        out.endpoint(receiver.url, ordered=ordered)
        storing = threading.Thread(target=store)
        storing.start()
        for _ in range(4):
            seen = len(receiver.journal)
            wait_until(lambda seen=seen: len(receiver.journal) > seen + 50, "it delivers")
            out.process.kill()
            out.process.start()
        stop.set()
        storing.join()

        def all_there():
            out.hurry()
            return set(stored) <= set(receiver.ids)

        wait_until(all_there, "every message arrives")
        out.settled()
    if ordered:
        for topic in topics:
            numbers = [int(got.body) for got in receiver.journal if got.topic == topic]
            firsts = list(dict.fromkeys(numbers))
            assert firsts == sorted(firsts)
    assert not out.due(GIVEN_UP)


def test_a_stop_waits_for_what_is_under_way_and_notes_it(out):
    reached, go = threading.Event(), threading.Event()

    def answer(_):
        reached.set()
        go.wait(10)
        return Reply(200)

    with receiving(answer) as receiver:
        out.endpoint(receiver.url)
        out.put(b"1")
        assert reached.wait(20)
        out.process.popen.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        go.set()
        assert out.process.popen.wait(10) == 0
        assert out.row().delivered == 1
        assert receiver.bodies == [b"1"]


def test_a_restored_backup_delivers_again_and_skips_none(out, tmp_path):
    with receiving() as receiver:
        out.endpoint(receiver.url)
        out.put(b"1", b"2")
        out.settled()
        out.store.backup.make(tmp_path / "copy.db", lambda *_: True)
        out.put(b"3")
        out.settled()
        out.process.stop()
        out.writer.close()
        out.store.reader.close()
        with out.store.restore(tmp_path / "copy.db", lambda *_: True) as restoration:
            restoration.put_in_place()
        out.writer = out.store.open_writer()
        assert out.row().cursor == 2
        out.put(b"4")
        out.process.start()
        wait_until(lambda: b"4" in receiver.bodies, "the next message arrives")
    assert sorted(receiver.bodies) == [b"1", b"2", b"3", b"4"]  # in no order: none was asked for


def test_kills_of_the_worker_and_of_the_deliverer_skip_none(stack, tmp_path):
    """The whole way: what was answered 202 reaches the endpoint, in the order of its topic."""
    running = stack(workers=1, deliver_allow="127.0.0.1")
    deliver = Process("deliver", running.env, tmp_path)
    store = open_store(
        configuration.load({k: v for k, v in running.env.items() if k.startswith("APPLIANCE")})
    )
    deliver.start()
    accepted, stop = [], threading.Event()

    def send():
        while not stop.is_set():
            answer = running.publish("orders", b"%d" % len(accepted))
            accepted.append(answer.json()["id"])

    with receiving() as receiver:
        row = EndpointRow(
            name="shop", url=receiver.url, topics=("orders",), settings={"ordered": True},
            created_at=timestamps.now(), changed_at=timestamps.now(),
        )  # fmt: skip
        store.endpoints.create(row, [SECRET], {}, 0, DEED)
        sending = threading.Thread(target=send)
        sending.start()
        try:
            for processes in ((deliver,), (deliver, *running.workers)):
                seen = len(set(receiver.ids))
                wait_until(
                    lambda seen=seen: len(set(receiver.ids)) > seen + 20,
                    "it delivers",
                    more=lambda: deliver.log,
                )
                for process in processes:
                    process.kill()
                for process in processes:
                    process.start()
        finally:
            stop.set()
            sending.join()
        wait_until(lambda: set(accepted) <= set(receiver.ids), "every message arrives")
        assert list(dict.fromkeys(receiver.bodies)) == [b"%d" % n for n in range(len(accepted))]
        assert deliver.stop() == 0
    store.reader.close()


def test_an_endpoint_with_too_much_undelivered_goes_on_once_some_of_it_is_discarded(make):
    out = make()
    with receiving() as receiver:
        endpoint = out.endpoint(receiver.url)
        link = connect(out.store.path, readonly=False)
        link.execute(
            "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?) "
            "INSERT INTO deliveries_due "
            "(endpoint, seq, message_id, topic, state, attempts, first_at, error) "
            "SELECT ?, -n, 'm' || n, 't', 'given-up', 1, 1, '' FROM n",
            (MOST_UNFINISHED, endpoint.id),
        )
        link.close()
        out.put("1")
        out.process.start()
        until_said(out, "endpoint has too much undelivered")
        assert receiver.ids == []
        assert out.store.endpoints.discard("shop", None, DEED) == MOST_UNFINISHED
        wait_until(lambda: receiver.ids, "it goes on", more=lambda: out.process.log)
