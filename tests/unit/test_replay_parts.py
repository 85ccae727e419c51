"""The parts of a replay to an endpoint, without a database: whose turn it is, what is noted."""

import asyncio
from math import inf

import pytest

from appliance.deliver.jobs import Job
from appliance.deliver.replay_turns import ReplayTurns
from appliance.store.endpoint_rows import DeliveryOutcome, DueRow
from appliance.store.filters import MessageFilter
from appliance.store.replay_rows import ReplayPart, ReplayStanding, ReplayWork
from appliance.store.rows import StoredMessage

ENDPOINT = 7


def message(seq, topic="t"):
    return StoredMessage(seq, f"id-{seq}", topic, "", 1, b"12345", None, None)


def work(name="a", cursor=0, until=4):
    return ReplayWork(name, ENDPOINT, "shop", MessageFilter(), cursor, until)


class Desk:
    """A store with these messages, of which one read returns two."""

    def __init__(self, *rows):
        self.rows = rows
        self.room_left = 1000

    async def ask(self, question):
        return question(self)

    def room(self):
        return self.room_left

    def replay_part(self, asked, after, _limit, _room):
        found = [row for row in self.rows if after < row.seq <= asked.until][:2]
        end = found[-1].seq if len(found) == 2 else asked.until
        return ReplayPart(found, end, gone=int(after == 0 and not found))


@pytest.fixture
def desk():
    return Desk(*map(message, range(1, 5)))


def turns(*works, ordered=False, concurrency=10):
    made = ReplayTurns(ENDPOINT, ordered=ordered, concurrency=concurrency)
    made.tell(works or [work()])
    return made


def take(each, desk, now=100.0):
    return asyncio.run(each.next(now, desk))


def succeed(each, job):
    flow = each.of(job)
    flow.let_go()
    flow.succeed(job)


def collected(each):
    outcome = DeliveryOutcome()
    each.collect(outcome, all_of_it=False)
    return outcome


def test_all_messages_of_a_replay_are_handed_out_and_then_it_is_done(desk):
    each = turns()
    jobs = [take(each, desk) for _ in range(4)]
    assert [job.message.seq for job in jobs] == [1, 2, 3, 4]
    assert {job.replay for job in jobs} == {"a"}
    assert take(each, desk) is None
    assert each.next_at == inf
    for job in reversed(jobs[1:]):
        succeed(each, job)
    outcome = collected(each)
    assert outcome.replays == [ReplayStanding("a", 0, 3, 0, is_done=False)]
    assert outcome.resolved == [(ENDPOINT, 4), (ENDPOINT, 3), (ENDPOINT, 2)]
    succeed(each, jobs[0])
    assert collected(each).replays == [ReplayStanding("a", 4, 1, 0, is_done=True)]
    assert collected(each).replays == []
    each.tell([work(), work("b", cursor=2)])  # read before the end of the first was stored
    assert take(each, desk).replay == "b"


def test_replays_go_one_after_another(desk):
    each = turns(work("a", until=1), work("b", until=1))
    first = take(each, desk)
    assert take(each, desk) is None
    succeed(each, first)
    assert collected(each).replays[0].is_done
    assert take(each, desk).replay == "b"


def test_a_replay_gets_one_attempt_of_four_while_there_are_new_messages():
    each = turns()
    assert [each.is_turn(new_wait=True) for _ in range(8)] == [False, False, False, True] * 2
    assert each.is_turn(new_wait=False)
    each.tell([])
    assert not each.is_turn(new_wait=False)


@pytest.mark.parametrize(("concurrency", "most"), [(1, 1), (2, 1), (5, 2)])
def test_a_replay_has_half_of_what_may_be_under_way(desk, concurrency, most):
    each = turns(concurrency=concurrency)
    jobs = [take(each, desk) for _ in range(4)]
    assert [job is not None for job in jobs] == [True] * most + [False] * (4 - most)
    assert each.next_at == inf
    succeed(each, jobs[0])
    assert take(each, desk).message.seq == most + 1


def test_a_stopped_replay_begins_nothing_and_is_left_where_it_was(desk):
    each = turns()
    job = take(each, desk)
    each.tell([])
    assert take(each, desk) is None
    assert each.next_at == inf
    each.tell([work()])  # resumed before the end of what was under way
    second = take(each, desk)
    assert second.message.seq == 2
    each.tell([])
    succeed(each, job)
    assert collected(each).replays == [ReplayStanding("a", 1, 1)]
    each.of(second).let_go()
    assert each.bytes
    each.tell([])
    assert not each.bytes
    each.tell([work(cursor=1)])
    assert take(each, desk).message.seq == 2


def test_one_of_a_topic_is_in_hand_where_order_is_asked_for_and_a_held_one_waits():
    desk = Desk(message(1, "t"), message(2, "u"), message(3, "t"), message(4, "u"))
    each = turns(ordered=True)
    first, other = take(each, desk), take(each, desk)
    assert [first.message.seq, other.message.seq] == [1, 2]
    take(each, desk)
    flow = each.of(first)
    flow.let_go()
    flow.hold(first, 200.0)
    succeed(each, other)
    assert take(each, desk).message.seq == 4
    assert take(each, desk) is None
    assert each.next_at == 200.0
    assert take(each, desk, 200.0) is first
    succeed(each, first)
    assert take(each, desk, 200.0).message.seq == 3


def test_a_message_that_is_put_back_comes_again(desk):
    each = turns()
    job = take(each, desk)
    each.of(job).let_go()
    each.of(job).put_back(job)
    assert take(each, desk) is job


def test_nothing_is_read_where_there_is_no_room_until_something_ended(desk):
    each = turns()
    job, _ = take(each, desk), take(each, desk)
    desk.room_left = 0
    assert take(each, desk) is None
    assert each.next_at == inf
    succeed(each, job)
    desk.room_left = 1000
    assert take(each, desk).message.seq == 3


def test_a_selection_without_messages_is_done_and_what_is_gone_is_counted():
    desk, each = Desk(), turns()
    assert take(each, desk) is None
    assert collected(each).replays == [ReplayStanding("a", 4, 0, 1, is_done=True)]


def test_a_message_that_had_waited_is_counted_for_its_replay():
    each = turns()
    row = DueRow(1, ENDPOINT, 1, "id-1", "t", "waiting", 1, 1.0, 1.0, 500, "", "other")
    assert each.of(Job(message(1), due=row, replay="other")) is None
    each.late("other")
    assert collected(each).replays == [ReplayStanding("other", None, 1)]
