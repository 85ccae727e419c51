"""The first start, and a power cut in it: nothing was accepted yet, so it may begin anew."""

import json

import pytest

pytestmark = pytest.mark.slow


def test_a_first_start_that_was_cut_off_is_begun_anew(stack):
    """The files that RabbitMQ made and did not sync are empty; it would never start on them."""
    one = stack(start=False)
    one.broker.start()
    one.broker.wait()
    one.broker.process.kill()
    unsynced = list(one.data.rglob("coordination/*/meta.dets"))
    assert unsynced
    for file in unsynced:
        file.write_bytes(b"")
    one.start()
    assert "broker database recreated" in one.broker.process.log_now
    assert one.publish("orders", "hello", Prefer="wait=20").status_code == 201


def test_a_broker_that_is_killed_once_something_was_accepted_keeps_its_database(stack):
    one = stack(workers=0)
    assert one.publish("orders", "hello").status_code == 202
    one.broker.process.kill()
    one.broker.start()
    one.broker.wait()
    assert "broker database recreated" not in one.broker.process.log_now
    assert not list(one.data.rglob("*.unfinished"))


def test_an_ordinary_first_start_and_stop_logs_no_complaint(stack):
    """The broker misses no queue and no goodbye of a client, and no client warns of anything."""
    one = stack(workers=2, start=False).start()  # with a broker of its own
    assert one.publish("orders", "hello", Prefer="wait=20").status_code == 201
    clients = [*one.workers, one.api]
    assert [client.stop() for client in clients] == [0, 0, 0]
    assert one.broker.process.stop() == 0
    # The harness looks whether the port answers, without a user.
    lines = [line for line in one.broker.process.log.splitlines() if "user:" in line]
    for complaint in ("not_found", "unexpectedly closed", "PRECONDITION_FAILED"):
        assert not [line for line in lines if complaint in line]
    for client in clients:
        levels = [json.loads(line)["level"] for line in client.log.splitlines()]
        assert set(levels) <= {"info", "debug"}, client.log
        assert client.log.count("waiting for the broker") <= 1
