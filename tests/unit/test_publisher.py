"""What the publisher promises while there is no broker; the rest is tested with a real one."""

import asyncio
import time

import pytest

from appliance.broker.publisher import Publisher, _Parcel
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
            parcel = _Parcel(publisher._lane(topic), now + left)
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
