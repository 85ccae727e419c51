"""`appliance verify` beside a running appliance: what is there is said to be, and what is lost."""

import json

import pytest
from harness import wait_until
from load import Load, amqp, wait_accepting, wait_drained
from standstill import frozen

from appliance.broker import base


@pytest.fixture(scope="module")
def shared(module_stack):
    return module_stack(workers=2, publish_timeout=2.0)


@pytest.fixture
def running(shared):
    """The stack of this module, with every process alive, and no gap left of the last test."""
    yield shared
    for process in shared.processes:
        if not process.running:
            process.start()
    shared.wait_ready()
    assert shared.publish("teller", "x", Prefer="wait=20").status_code == 201
    verify(shared, "--accept")


def verify(stack, *options):
    """Return the exit status and what it found."""
    done = stack.cli("verify", "--json", *options)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def check_complete(stack):
    status, found = verify(stack)
    assert (status, found["problems"]) == (0, []), found
    assert found["sources"]["missing"] == 0
    return found


def stop_workers(stack):
    for worker in stack.workers:
        wait_until(lambda w=worker: "broker connected" in w.log_now, "it consumes", 30, stack.logs)
        assert worker.stop() == 0


def purge(stack):
    """Lose what waits, as a broker would that lied; returns how many envelopes."""
    with amqp(stack) as link:
        return link.channel().queue_purge(base.QUEUE).method.message_count


def source_of(stack):
    return stack.get("/v1/status").json()["broker"]["numbers"]["source"]


def test_all_is_well_while_messages_stream_in(running):
    with Load(running, "streaming", senders=4) as load:
        for _ in range(4):
            load.wait_accepted(200)
            found = check_complete(running)
            assert found["queue"]["not_stored"] == 0
            assert found["sources"]["unknown"] == 0
    load.verify()
    assert running.query("SELECT * FROM sources WHERE source = ?", source_of(running))


def test_an_envelope_lost_behind_our_back_is_missing(running):
    """The queue is emptied under a worker that is away; the next envelope tells."""
    source = source_of(running)
    stop_workers(running)
    for n in range(5):
        assert running.publish("purged", f"lost {n}").status_code == 202
    assert purge(running) == 5
    running.workers[0].start()
    assert running.publish("purged", "next", Prefer="wait=20").status_code == 201
    status, found = verify(running)
    assert status == 1
    assert found["sources"]["missing"] == 5
    (gap,) = found["sources"]["gaps"]
    assert (gap["source"], gap["missing"]) == (source, 5)
    ((first, last),) = gap["missing_ranges"]
    assert last - first == 4
    assert "5" in found["problems"][0]
    assert "confirmed envelopes missing" in running.workers[0].log_now
    assert "WRONG: envelopes missing: 5" in running.cli("verify").stdout.decode()


@pytest.mark.slow
def test_the_last_envelopes_are_missed_while_their_api_runs(running):
    """Nothing comes after them that could tell; the API knows. Waits 5 s for them."""
    stop_workers(running)
    for n in range(3):
        assert running.publish("tail", f"lost {n}").status_code == 202
    status, found = verify(running)
    assert status == 0
    assert found["queue"]["not_stored"] == 3
    assert "confirmed envelopes that wait to be stored: 3" in found["notes"]
    purge(running)
    status, found = verify(running)
    assert status == 1
    assert "envelopes missing: 3" in found["problems"][0]


def test_the_last_envelopes_are_missed_after_a_clean_stop(running):
    """The API's final ledger entries come after them."""
    stop_workers(running)
    for n in range(3):
        assert running.publish("words", f"lost {n}").status_code == 202
    purge(running)
    assert running.api.stop() == 0
    assert accounts(running) == []  # all is said
    running.workers[0].start()
    wait_until(lambda: verify(running)[1]["sources"]["missing"] == 3, "the gap", 30, running.logs)
    status, found = verify(running)
    assert status == 1
    assert found["queue"]["depth"] is None
    assert "nothing answers at" in found["queue"]["reason"]


def accounts(stack):
    return list((stack.data / "sources").glob("*"))


@pytest.mark.slow
def test_the_last_envelopes_are_missed_after_the_api_was_killed(running):
    """It has noted each second what was confirmed; the next one reports it. Waits for the note."""
    stop_workers(running)
    for n in range(3):
        assert running.publish("killed-tail", f"lost {n}").status_code == 202
    settled = running.get("/v1/status").json()["broker"]["numbers"]["settled"]
    wait_until(
        lambda: any(f",{settled},".encode() in p.read_bytes() for p in accounts(running)),
        "it is noted", 30, running.logs,
    )  # fmt: skip
    running.api.kill()
    purge(running)
    running.workers[0].start()
    _, found = verify(running)
    assert found["queue"]["not_stored"] == 3  # while it is not there to be asked
    running.api.start()
    wait_accepting(running)
    wait_until(lambda: verify(running)[1]["sources"]["missing"] == 3, "the gap", 30, running.logs)
    wait_until(lambda: accounts(running) == [], "the note is removed", 30, running.logs)
    assert "ledger record recovered" in running.api.log_now


@pytest.mark.slow
def test_an_api_that_was_killed_and_lost_nothing_leaves_no_gap(running):
    """Waits for the note of the one, and the report of the next."""
    source = source_of(running)
    with Load(running, "killed-well", senders=4) as load:
        load.wait_accepted(200)
        wait_until(  # the file is there a moment before there is something in it
            lambda: any(path.read_bytes() for path in accounts(running)),
            "it is noted", 30, running.logs,
        )  # fmt: skip
        running.api.kill()
        running.api.start()
        wait_accepting(running)
        load.wait_accepted(50)
    load.verify()
    wait_until(lambda: "ledger record recovered" in running.api.log_now, "reported", 30)
    wait_drained(running)
    found = check_complete(running)
    assert source not in [gap["source"] for gap in found["sources"]["gaps"] if gap["missing"]]


def test_last_words_that_no_broker_took_are_reported_by_the_next(running):
    source = source_of(running)
    assert running.publish("away", "x", Prefer="wait=20").status_code == 201
    running.broker.process.kill()
    assert running.api.stop() == 0
    assert source in [path.name for path in accounts(running)]
    running.broker.start()
    running.api.start()
    running.wait_ready()
    wait_until(
        lambda: running.query("SELECT settled FROM sources WHERE source = ?", source)[0][0]
        == json.loads(
            running.query("SELECT accounted FROM sources WHERE source = ?", source)[0][0]
        )[-1][1],
        "all of the old one is settled", 60, running.logs,
    )  # fmt: skip
    check_complete(running)


def test_an_envelope_that_the_broker_refuses_is_no_gap(stack):
    small = stack(workers=1, queue_max_bytes="1MiB", publish_timeout=2.0)
    stop_workers(small)
    answers = [small.publish("full", b"x" * 300_000).status_code for _ in range(12)]
    assert {202, 503} == set(answers)
    small.workers[0].start()
    wait_until(lambda: small.publish("full", "again").status_code == 202, "room", 60, small.logs)
    wait_drained(small)
    found = check_complete(small)
    assert found["sources"]["not_kept"] >= answers.count(503)
    assert found["sources"]["unknown"] == 0


def test_an_envelope_given_up_that_came_after_all_is_no_error(running):
    """The broker is held past the deadline: nobody knows what it took, and then it has taken it."""
    with Load(running, "held", senders=4, pause=0.02) as load:
        load.wait_accepted(50)
        with frozen(running.broker.process.pid):
            wait_until(lambda: len(load.refused) >= 4, "nothing is confirmed", 30, running.logs)
        wait_accepting(running)
        load.wait_accepted(50)
    wait_drained(running)
    check_complete(running)


def test_the_api_and_the_broker_killed_under_load_leave_no_gap(running):
    with Load(running, "killed", senders=6) as load:
        for _ in range(3):
            load.wait_accepted(150)
            running.api.kill()
            running.api.start()
            wait_accepting(running)
            load.wait_accepted(150)
            running.broker.process.kill()
            running.broker.start()
            running.workers[0].kill()
            running.workers[0].start()
            wait_accepting(running)
        load.wait_accepted(150)
    load.verify()
    found = check_complete(running)
    assert found["sources"]["total"] >= 4
    assert found["queue"]["not_stored"] == 0


def test_an_api_that_stops_under_load_accounts_for_every_envelope(running):
    source = source_of(running)
    with Load(running, "stopping", senders=6) as load:
        load.wait_accepted(200)
        assert running.api.stop() == 0
        running.api.start()
        wait_accepting(running)
        load.wait_accepted(50)
    load.verify()
    (row,) = running.query("SELECT * FROM sources WHERE source = ?", source)
    assert json.loads(row["accounted"]) == [[1, row["settled"]]]
    assert row["missing"] == 0


def test_envelopes_from_before_there_were_numbers_are_stored(running):
    """They were queued by an older program when this one was started."""
    headers = {"received_at": "2026-01-02T03:04:05.678Z", "count": 1, "bytes": 1}
    before = verify(running)[1]["sources"]
    with amqp(running) as link:
        link.channel().basic_publish(
            base.EXCHANGE, "old", b"x",
            pika_properties(type="appliance.message", headers=headers, user_id=base.USER,
                            message_id="01890a5d-ac96-774b-bcce-b302099a8057"),
        )  # fmt: skip
    running.wait_rows(1, "old")
    assert check_complete(running)["sources"]["accounted"] == before["accounted"]


def pika_properties(**properties):
    import pika

    return pika.BasicProperties(**properties)


def test_a_report_that_is_none_is_a_dead_letter(running):
    with amqp(running) as link:
        for body in (b"", b"x", b'["0123456789abcdef",1,0,[]]'):
            link.channel().basic_publish(
                base.EXCHANGE,
                "odd-report",
                body,
                pika_properties(type="appliance.report", user_id=base.USER),
            )
    wait_until(
        lambda: len(running.query("SELECT * FROM dead_letters WHERE topic = 'odd-report'")) == 3,
        "three dead letters", 30, running.logs,
    )  # fmt: skip


def test_verify_works_on_a_stopped_appliance(stack):
    own = stack(workers=1)
    for n in range(5):
        assert own.publish("stopped", f"{n}").status_code == 202
    own.wait_rows(5, "stopped")
    for process in (own.api, *own.workers, own.broker.process):
        assert process.stop() == 0
    status, found = verify(own)
    assert (status, found["notes"]) == (0, [])
    assert found["messages"]["rows"] == 5
    assert (found["sources"]["accounted"], found["sources"]["unknown"]) == (5, 0)
    assert found["queue"]["depth"] is None
