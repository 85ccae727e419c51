"""The publisher while there is no broker; the rest is tested with a real one."""

import asyncio
import time

import pytest
from harness import free_port

from appliance.broker.publish.publisher import AmqpPublisher
from appliance.config import load
from appliance.errors import RefusedError
from appliance.model.wire import Envelope, Kind, Message


@pytest.fixture
def run(tmp_path):
    """Run `test(publisher)` on a loop, beside a publisher whose broker is away."""

    def run(test, **settings):
        values = {f"APPLIANCE_{name.upper()}": value for name, value in settings.items()}
        values |= {
            "APPLIANCE_DATA": str(tmp_path),
            "APPLIANCE_BROKER_URL": f"amqp://127.0.0.1:{free_port()}",
        }

        async def body():
            publisher = AmqpPublisher(load(values))
            running = asyncio.create_task(publisher.run())
            await asyncio.sleep(0)
            try:
                await test(publisher)
            finally:
                await publisher.stop()
                await running

        asyncio.run(body())

    return run


def test_a_message_without_a_broker_is_refused_in_time_and_honestly(run):
    async def test(publisher):
        began = time.monotonic()
        waiting = [publisher.post(t, Message("id", "time", b"x")) for t in "aab"]
        for error in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(error, RefusedError)
            assert "nothing was kept" in str(error)
        assert 0.2 < time.monotonic() - began < 1

    run(test, publish_timeout="0.3")


def test_more_than_can_be_held_is_refused_at_once(run):
    async def test(publisher):
        body = b"x" * 2**20
        waiting = [publisher.post("t", Message("id", "time", body)) for _ in range(64)]
        with pytest.raises(RefusedError, match="too much waits"):
            publisher.post("t", Message("id", "time", body))
        await asyncio.gather(*waiting, return_exceptions=True)
        again = publisher.post("t", Message("id", "time", body))  # there is room again
        with pytest.raises(RefusedError, match="nothing was kept"):
            await again

    run(test, publish_timeout="0.3")


def test_a_message_that_was_never_sent_has_no_number(run):
    async def test(publisher):
        with pytest.raises(RefusedError):
            await publisher.post("t", Message("id", "time", b"x"))
        assert publisher.state().numbers.settled == 0
        assert publisher.state().numbers.not_kept == []

    run(test, publish_timeout="0.2")


def test_every_message_is_refused_for_the_reason_until_that_ends(run):
    async def test(publisher):
        publisher.refuse("the disk is full")
        with pytest.raises(RefusedError, match="the disk is full; nothing was kept"):
            publisher.post("t", Message("id", "time", b"x"))
        publisher.refuse("")
        with pytest.raises(RefusedError, match="the broker took nothing"):
            await publisher.post("t", Message("id", "time", b"x"))

    run(test, publish_timeout="0.2")


def test_an_envelope_from_another_thread_is_answered_there(run):
    envelope = Envelope("t", Kind.MESSAGE, "id", "time", 1, 1, b"x")

    async def test(publisher):
        with pytest.raises(RefusedError, match="the broker took nothing"):
            await asyncio.to_thread(publisher.publish_and_wait, envelope)

    run(test, publish_timeout="0.2")


def test_an_envelope_for_a_publisher_that_does_not_run_is_refused(tmp_path):
    publisher = AmqpPublisher(load({"APPLIANCE_DATA": str(tmp_path)}))
    with pytest.raises(RefusedError, match="not running"):
        publisher.publish_and_wait(Envelope("t", Kind.MESSAGE, "id", "time", 1, 1, b"x"))


def test_the_state_without_a_broker_says_why(run):
    async def test(publisher):
        while publisher.state().reason == "not connected yet":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        state = publisher.state()
        assert not state.connected
        assert not state.accepting
        assert "Connection refused" in state.reason

    run(test)
