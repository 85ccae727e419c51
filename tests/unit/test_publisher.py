"""What the publisher promises while there is no broker; the rest is tested with a real one."""

import asyncio
import time

import pika
import pytest

from appliance.broker.publish.lanes import Parcel
from appliance.broker.publish.publisher import Publisher
from appliance.config import load
from appliance.errors import DeadlineError, RefusedError


def run(test, **settings):
    """Run `test(publisher)` with its clock, on a loop, and never connected."""

    async def body():
        publisher = Publisher(load({f"APPLIANCE_{k.upper()}": v for k, v in settings.items()}))
        sweeping = asyncio.create_task(publisher._sweep())
        try:
            await test(publisher)
        finally:
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)

    asyncio.run(body())


def test_without_a_broker_a_message_is_refused_in_time_and_honestly():
    async def test(publisher):
        began = time.monotonic()
        waiting = [publisher.post(t, "id", "time", b"x") for t in "aab"]
        for error in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(error, RefusedError)
            assert "nothing was kept" in str(error)
        assert 0.2 < time.monotonic() - began < 1
        assert publisher._held_requests == publisher._held_bytes == 0
        assert publisher._lanes == {}

    run(test, publish_timeout="0.3")


def test_what_was_sent_late_is_not_answered_late():
    """A parcel that waited in its lane stands behind younger ones of other lanes."""

    async def test(publisher):
        now = time.monotonic()
        waiters = []
        for tag, (topic, left) in enumerate([("a", 60), ("b", 0.1), ("c", 60)], 1):
            parcel = Parcel(publisher._lane(topic), now + left)
            parcel.items, parcel.sent = [("id", "time", b"x")], True
            parcel.waiters = [publisher._hold(1)]
            parcel.size = parcel.lane.unconfirmed = 1
            publisher._unconfirmed[tag] = parcel
            waiters += parcel.waiters
        with pytest.raises(DeadlineError, match="may have been kept or not"):
            await asyncio.wait_for(waiters[1], 2)
        assert not waiters[0].done()
        assert not waiters[2].done()

    run(test)


def test_more_than_can_be_held_is_refused_at_once():
    async def test(publisher):
        body = b"x" * 2**20
        waiting = [publisher.post("t", "id", "time", body) for _ in range(64)]
        began = time.monotonic()
        with pytest.raises(RefusedError, match="too much waits"):
            publisher.post("t", "id", "time", body)
        assert time.monotonic() - began < 0.1
        await asyncio.gather(*waiting, return_exceptions=True)
        assert publisher._held_bytes == 0
        again = publisher.post("t", "id", "time", body)  # there is room again
        with pytest.raises(RefusedError, match="nothing was kept"):
            await again

    run(test, publish_timeout="0.3")


def sent(publisher, tag, topic="t"):
    """Put a parcel where one is that was published; return who waits for it."""
    parcel = Parcel(publisher._lane(topic), time.monotonic() + 60)
    parcel.items, parcel.sent = [("id", "time", b"x")], True
    parcel.number = publisher._numbering.give()
    parcel.waiters = [publisher._hold(1)]
    parcel.size = parcel.requests = 1
    parcel.lane.unconfirmed += 1
    publisher._unconfirmed[tag] = parcel
    return parcel.waiters[0]


def answer(publisher, method):
    publisher._answered(pika.frame.Method(1, method))


def test_a_refusal_is_certain_only_where_no_earlier_copy_may_have_arrived():
    async def test(publisher):
        waiter = sent(publisher, 1)
        answer(publisher, pika.spec.Basic.Nack(1))
        with pytest.raises(RefusedError, match="nothing was kept"):
            await waiter
        waiter = sent(publisher, 1)
        publisher._lost("the connection broke")
        (parcel,) = publisher._lanes["t"].waiting
        publisher._lanes["t"].waiting.clear()
        publisher._unconfirmed[1] = parcel  # published again
        answer(publisher, pika.spec.Basic.Nack(1))
        with pytest.raises(DeadlineError, match="may have been kept or not"):
            await waiter
        assert publisher.state().numbers.not_kept == [[1, 2]]

    run(test)


def test_what_is_given_up_is_settled_and_what_may_still_come_is_not():
    async def test(publisher):
        confirmed, late, waiting = (sent(publisher, tag) for tag in (1, 2, 3))
        answer(publisher, pika.spec.Basic.Ack(1))
        await confirmed
        publisher._unconfirmed[2].deadline = 0
        with pytest.raises(DeadlineError):
            await late
        assert publisher.state().numbers.settled == 1  # it may still be confirmed
        publisher._lost("the connection broke")
        assert publisher.state().numbers.settled == 2
        assert publisher.state().numbers.not_kept == [[2, 2]]
        publisher._lanes["t"].waiting[0].deadline = 0
        with pytest.raises(DeadlineError):
            await waiting
        assert publisher.state().numbers.settled == 3
        assert publisher.state().numbers.not_kept == [[2, 3]]

    run(test)


def test_what_was_never_sent_has_no_number():
    async def test(publisher):
        with pytest.raises(RefusedError):
            await publisher.post("t", "id", "time", b"x")
        assert publisher.state().numbers.settled == 0
        assert publisher.state().numbers.not_kept == []

    run(test, publish_timeout="0.2")
