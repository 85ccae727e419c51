"""The first start, and a power cut in it: nothing was accepted yet, so it may begin anew."""

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
