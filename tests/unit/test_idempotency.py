"""What this process remembers of requests with a key."""

import asyncio

import pytest

from appliance.api.bodies.plan import BodyPlan, Form
from appliance.api.publish import idempotency
from appliance.api.publish.idempotency import Attempts
from appliance.api.publish.publish_options import PublishOptions
from appliance.api.publish.receipt import Receipt
from appliance.errors import DeadlineError, KeyReusedError

OPTIONS = PublishOptions("t", BodyPlan(Form.WHOLE, 100), "k", None, None)
RECEIPT = Receipt("t", Form.WHOLE, "id", 1, "now", False)


@pytest.fixture
def attempts():
    return Attempts()


async def never():
    raise AssertionError("there was a first attempt already")


def again(attempts, body=b"x"):
    return asyncio.ensure_future(attempts.once("p", OPTIONS, [body], never))


def test_further_attempts_wait_for_the_first_one_and_have_its_receipt(attempts):
    async def run():
        first = attempts.begin("p", OPTIONS, b"x")
        assert attempts.begin("p", OPTIONS, b"x") is None
        waiting = [again(attempts) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()  # its client has gone; the others wait on
        await asyncio.sleep(0)
        assert not any(each.done() for each in waiting[1:])
        first.succeed(RECEIPT)
        return [*await asyncio.gather(*waiting[1:]), await again(attempts)]

    assert asyncio.run(run()) == [RECEIPT._replace(is_repeat=True)] * 3


def test_another_body_with_the_key_is_refused_before_the_first_attempt_has_ended(attempts):
    async def run():
        attempts.begin("p", OPTIONS, b"x")
        await again(attempts, b"y")

    with pytest.raises(KeyReusedError):
        asyncio.run(run())


@pytest.mark.parametrize("error", [DeadlineError("not confirmed"), asyncio.CancelledError()])
def test_a_failed_attempt_is_told_to_those_who_wait_and_forgotten(attempts, error):
    async def run():
        first = attempts.begin("p", OPTIONS, b"x")
        waiting = [again(attempts) for _ in range(2)]
        await asyncio.sleep(0)
        first.fail(error)
        told = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(each) for each in told] == [type(error)] * 2
        second = attempts.begin("p", OPTIONS, b"another")
        first.fail(error)  # which is no longer the one that is remembered
        assert attempts.begin("p", OPTIONS, b"another") is None
        second.succeed(RECEIPT)

    asyncio.run(run())


def test_an_attempt_that_is_made_with_care_ends_in_the_same_ways(attempts):
    async def run():
        go_on = asyncio.Event()

        async def fails():
            await go_on.wait()
            raise DeadlineError("not confirmed")

        async def ends():
            return RECEIPT

        first = asyncio.ensure_future(attempts.once("p", OPTIONS, [b"x"], fails))
        await asyncio.sleep(0)
        waiting = again(attempts)
        await asyncio.sleep(0)
        go_on.set()
        for each in (first, waiting):
            with pytest.raises(DeadlineError):
                await each
        assert await attempts.once("p", OPTIONS, [b"y"], ends) == RECEIPT
        assert (await again(attempts, b"y")).is_repeat

    asyncio.run(run())


def test_the_oldest_attempt_makes_room_for_a_new_one(attempts, monkeypatch):
    monkeypatch.setattr(idempotency, "_REMEMBERED", 2)
    for prefix in "abc":
        assert attempts.begin(prefix, OPTIONS, b"x") is not None
    assert attempts.begin("c", OPTIONS, b"x") is None
    assert attempts.begin("a", OPTIONS, b"x") is not None
