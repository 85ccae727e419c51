"""Subscriptions: what is handed out, comes back, is given up; none is skipped."""

import tempfile
import time

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from store_contents import many, one

from appliance import config as configuration
from appliance.errors import ExistsError
from appliance.model import leases, timestamps
from appliance.store import open_store
from appliance.store.access_rows import Actor, Deed
from appliance.store.sql import pulling, subscriptions
from appliance.store.subscription_rows import NotServed, Receive, Settlement, SubscriptionRow

DEED = Deed(Actor("test", ""), "subscription-create", "jobs")


class Clock:
    """The time of the store, moved by a test; it begins now, since rows carry real times."""

    def __init__(self):
        self.now = time.time()

    def time(self):
        return self.now

    def time_ns(self):
        return int(self.now * 1000) * 1_000_000


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(pulling, "time", clock)
    monkeypatch.setattr(subscriptions, "time", clock)
    return clock


class Group:
    """A subscription `jobs`, and its consumers."""

    def __init__(self, store, topics=("*",), most=3, since=""):
        self.store = store
        self.puller = store.puller
        row = SubscriptionRow("jobs", topics, 10, most, timestamps.now())
        store.subscriptions.create(row, since, DEED)

    def receive(self, limit=10, seconds=None, patterns=None, puller=None):
        order = Receive("jobs", patterns, limit, seconds)
        return (puller or self.puller).serve([order])[0]

    def say(self, action, *handed, seconds=0, reason="", leases=()):
        ids = (*leases, *(each.lease for each in handed))
        return self.puller.serve([Settlement(action, "jobs", None, ids, seconds, reason)])[0]

    @property
    def counts(self):
        return self.store.subscriptions.counts("jobs")


@pytest.fixture
def group(store, writer, clock):
    return Group(store)


def bodies(received):
    return [each.message.body for each in received.messages]


def test_a_message_is_handed_out_once_and_never_again_when_it_is_acknowledged(group, writer, clock):
    writer.store([many([b"a", b"b", b"c"])])
    first = group.receive(2)
    assert bodies(first) == [b"a", b"b"]
    assert bodies(group.receive()) == [b"c"]
    assert group.say("ack", *first.messages).done == 2
    clock.now += 11
    assert bodies(group.receive()) == [b"c"]
    clock.now += 3600
    group.say("ack", *group.receive().messages)
    assert group.receive().messages == []
    assert group.store.subscriptions.find("jobs").acknowledged == 3


def test_a_subscription_that_nobody_reads_makes_no_rows(group, writer, by_hand):
    writer.store([many([b"%d" % n for n in range(50)])])
    assert group.counts.lag == 50
    assert by_hand("SELECT count(*) FROM leases") == [(0,)]


def test_an_acknowledged_message_leaves_no_row(group, writer, by_hand):
    writer.store([many([b"a", b"b"])])
    group.say("ack", *group.receive().messages)
    assert by_hand("SELECT count(*) FROM leases") == [(0,)]


def test_a_subscription_begins_with_what_is_stored_after_it(store, writer, clock):
    writer.store([one(b"before")])
    group = Group(store, since=None)
    writer.store([one(b"after")])
    assert bodies(group.receive()) == [b"after"]


def test_only_messages_of_its_topics_are_handed_out(store, writer, clock):
    group = Group(store, topics=("orders.*", "exact"))
    for topic in ("orders.eu", "other", "exact", "exactly", "orders"):
        writer.store([one(topic.encode(), topic=topic)])
    assert bodies(group.receive()) == [b"orders.eu", b"exact"]
    assert group.counts.lag == 0


def test_a_message_that_is_given_back_waits_for_its_delay(group, writer, clock):
    writer.store([one(b"a")])
    held = group.receive().messages
    assert group.say("nack", *held, seconds=5, reason="busy").done == 1
    waiting = group.receive()
    assert waiting.messages == []
    assert waiting.due == int(clock.now * 1000) + 5000
    clock.now += 5
    again = group.receive().messages
    assert [each.attempt for each in again] == [2]
    assert group.say("ack", *held).unknown == [held[0].lease]
    assert group.say("ack", *again).done == 1


def test_a_message_is_given_up_after_its_last_attempt_and_redriven_or_discarded(
    group, writer, clock
):
    writer.store([many([b"a", b"b"])])
    for attempt in (1, 2, 3):
        held = group.receive().messages
        assert [each.attempt for each in held] == [attempt, attempt]
        group.say("nack", held[0], reason="no good")
        clock.now += 11
    dead = group.store.subscriptions.dead("jobs", 0, 10).rows
    assert [(each.body, each.attempts, each.reason) for each in dead] == [
        (b"a", 3, "no good"),
        (b"b", 3, leases.NOT_ACKNOWLEDGED),
    ]
    assert group.receive().messages == []
    assert group.counts.dead == 2
    assert group.store.subscriptions.redrive("jobs", [dead[0].message.id], DEED) == 1
    assert group.store.subscriptions.discard("jobs", None, DEED) == 1
    assert [(each.message.body, each.attempt) for each in group.receive().messages] == [(b"a", 1)]
    assert group.counts.dead == 0


def test_a_message_that_is_held_is_neither_redriven_nor_discarded(group, writer):
    writer.store([one(b"a")])
    held = group.receive().messages[0].message.id
    for ids in ([held], None):
        assert group.store.subscriptions.redrive("jobs", ids, DEED) == 0
        assert group.store.subscriptions.discard("jobs", ids, DEED) == 0


def test_a_lease_that_is_extended_ends_later(group, writer, clock):
    writer.store([one(b"a")])
    held = group.receive().messages
    clock.now += 9
    assert group.say("extend", *held, seconds=20).done == 1
    clock.now += 19
    assert group.receive().messages == []
    assert group.say("ack", *held).done == 1


def test_a_lease_that_nobody_was_given_changes_nothing(group, writer):
    writer.store([one(b"a")])
    group.receive()
    for lease in ("", "1", "1.", "1.x", "-1.x", "9" * 19 + ".x", "\u00b2.x", "x.y"):
        for action in ("ack", "nack", "extend"):
            assert group.say(action, leases=[lease]).unknown == [lease]
    assert group.counts.leased == 1


def test_a_lease_of_one_subscription_counts_for_no_other(group, store, writer):
    store.subscriptions.create(SubscriptionRow("other", ("*",), 10, 3, timestamps.now()), "", DEED)
    writer.store([one(b"a")])
    lease = group.receive().messages[0].lease
    group.puller.serve([Receive("other", None, 1, None)])
    order = Settlement("ack", "other", None, (lease,))
    assert group.puller.serve([order])[0].unknown == [lease]


def test_a_message_that_is_deleted_leaves_no_row_and_is_counted(group, writer, clock, by_hand):
    writer.store([many([b"a", b"b"])])
    held = group.receive().messages
    by_hand("DELETE FROM messages WHERE seq = ?", (held[0].message.seq,))
    assert store_row(group).gone == 1
    clock.now += 11
    assert bodies(group.receive()) == [b"b"]
    assert group.say("ack", held[0]).unknown == [held[0].lease]


def store_row(group):
    return group.store.subscriptions.find("jobs")


def test_a_message_that_was_deleted_while_it_was_handed_out_is_dropped_when_it_comes_back(
    group, writer, clock, by_hand, engine
):
    writer.store([one(b"a")])
    group.receive()
    on_messages = "" if engine == "sqlite" else " ON messages"
    by_hand(f"DROP TRIGGER appliance_leased_deleted{on_messages}")
    by_hand("DELETE FROM messages")
    clock.now += 11
    assert group.receive().messages == []
    assert (store_row(group).gone, group.counts.leased + group.counts.waiting) == (1, 0)


def test_a_caller_that_may_not_read_all_of_its_topics_gets_nothing(group, writer):
    writer.store([one(b"a")])
    assert group.receive(patterns=("orders.*",)) == NotServed("forbidden")
    assert bodies(group.receive(patterns=("*",))) == [b"a"]


@pytest.mark.parametrize(
    ("patterns", "topics", "covered"),
    [
        (None, ("*",), True),
        (("orders.*",), ("orders.eu", "orders.*.de"), True),
        (("orders.*",), ("orders.eu", "other"), False),
        (("orders",), ("orders*",), False),
        (("a*", "b*"), ("*",), False),
    ],
)
def test_patterns_cover_topics_only_where_they_match_all_that_those_match(
    patterns, topics, covered
):
    assert leases.covers(patterns, topics) is covered


def test_two_processes_never_hold_one_message_at_once(group, writer, config, clock):
    other = open_store(config)
    writer.store([many([b"%d" % n for n in range(20)])])
    first = group.receive(8)
    second = group.receive(8, puller=other.puller)
    third = group.receive(8)
    assert bodies(first) + bodies(second) + bodies(third) == [b"%d" % n for n in range(20)]
    clock.now += 11
    again = bodies(group.receive(15, puller=other.puller)) + bodies(group.receive(15))
    assert sorted(again, key=int) == [b"%d" % n for n in range(20)]
    other.reader.close()


def test_a_process_that_read_before_another_was_quicker_hands_out_nothing_twice(
    group, writer, config, monkeypatch
):
    """The other one comes between the read and the transaction."""
    other = open_store(config)
    writer.store([many([b"%d" % n for n in range(4)])])
    theirs = []
    write = type(group.puller)._write

    def late(self, *args):
        monkeypatch.setattr(type(group.puller), "_write", write)
        theirs.append(group.receive(2, puller=other.puller))
        write(self, *args)

    monkeypatch.setattr(type(group.puller), "_write", late)
    mine = group.receive(3)
    assert (bodies(theirs[0]), mine.messages, mine.is_partial) == ([b"0", b"1"], [], True)
    assert bodies(group.receive()) == [b"2", b"3"]
    other.reader.close()


def test_a_message_that_comes_back_goes_to_the_quicker_of_two_processes(
    group, writer, config, clock, monkeypatch
):
    other = open_store(config)
    writer.store([many([b"0", b"1"])])
    group.receive()
    clock.now += 11
    theirs = []
    write = type(group.puller)._write

    def late(self, *args):
        monkeypatch.setattr(type(group.puller), "_write", write)
        theirs.append(group.receive(1, puller=other.puller))
        write(self, *args)

    monkeypatch.setattr(type(group.puller), "_write", late)
    mine = group.receive()
    assert (bodies(theirs[0]), bodies(mine)) == ([b"0"], [b"1"])
    assert group.say("ack", *mine.messages, *theirs[0].messages).done == 2
    other.reader.close()


def test_bodies_of_one_receive_are_bounded_in_sum(group, writer):
    writer.store([many([b"x" * 700_000] * 3)])
    assert [len(group.receive().messages) for _ in range(4)] == [1, 1, 1, 0]


def test_a_name_is_taken_once_and_a_removed_subscription_leaves_nothing(group, writer, by_hand):
    with pytest.raises(ExistsError):
        Group(group.store)
    writer.store([many([b"a", b"b"])])
    held = group.receive(1).messages
    assert group.store.subscriptions.remove("jobs", DEED)
    assert not group.store.subscriptions.remove("jobs", DEED)
    assert group.receive() == NotServed("unknown")
    assert by_hand("SELECT count(*) FROM leases") == [(0,)]
    anew = Group(group.store)
    assert bodies(anew.receive()) == [b"a", b"b"]
    assert anew.say("ack", *held).unknown == [held[0].lease]


def test_a_rare_topic_on_a_busy_store_moves_the_cursor_without_a_message(
    store, writer, clock, config, monkeypatch
):
    monkeypatch.setattr(pulling, "_LAZY_ROWS", 20)
    group = Group(store, topics=("rare.*",))
    for _ in range(5):
        writer.store([many([b"x"] * 10)])
        assert group.receive().messages == []
    writer.store([one(b"a", topic="rare.one")])
    assert bodies(group.receive()) == [b"a"]
    other = open_store(config)  # it begins where the cursor is in the database
    assert bodies(group.receive(puller=other.puller)) == []
    other.reader.close()


class Consumers(RuleBasedStateMachine):
    """Consumers that do anything, and processes that end at any moment.

    Every message is at each moment where a simple account says: never handed out, held, waiting,
    dead or acknowledged; and what was acknowledged never comes again.
    """

    count = 0

    @initialize()
    def begin(self):
        self.folder = tempfile.TemporaryDirectory()
        self.patch = pytest.MonkeyPatch()
        self.clock = Clock()
        self.patch.setattr(pulling, "time", self.clock)
        self.patch.setattr(subscriptions, "time", self.clock)
        self.config = configuration.load(
            {"APPLIANCE_DATA": self.folder.name, "APPLIANCE_MIN_FREE_BYTES": "0"}
        )
        self.store = open_store(self.config)
        self.store.migrate()
        self.writer = self.store.open_writer()
        self.group = Group(self.store, topics=("t", "u*"), most=2)
        self.stored, self.acknowledged, self.held = set(), set(), []
        self.number = 0

    @rule(topic=st.sampled_from(["t", "u1", "other"]), size=st.integers(1, 4))
    def store_some(self, topic, size):
        names = [b"%d" % (self.number + n) for n in range(size)]
        self.number += size
        self.writer.store([many(names, topic=topic)])
        if topic != "other":
            self.stored.update(names)

    @rule(limit=st.integers(1, 5), seconds=st.integers(1, 20))
    def receive(self, limit, seconds):
        received = self.group.receive(limit, seconds)
        now = int(self.clock.now * 1000)
        holding = {each.message.body for each in self.held if each.until > now}
        for each in received.messages:
            assert each.message.body in self.stored - self.acknowledged
            assert each.message.body not in holding
            assert each.attempt <= 2
        self.held = [
            each for each in self.held if each.message.body not in set(bodies(received))
        ] + received.messages

    @precondition(lambda self: self.held)
    @rule(data=st.data(), action=st.sampled_from(["ack", "nack", "extend"]))
    def say(self, data, action):
        each = data.draw(st.sampled_from(self.held))
        settled = self.group.say(action, each, seconds=data.draw(st.integers(1, 9)))
        if action == "extend":
            if settled.done:
                self.held[self.held.index(each)] = each._replace(until=settled.until)
            return
        self.held.remove(each)
        if action == "ack" and settled.done:
            self.acknowledged.add(each.message.body)

    @rule(seconds=st.integers(1, 15))
    def wait(self, seconds):
        self.clock.now += seconds

    @rule()
    def end_and_begin_again(self):
        self.store.reader.close()
        self.store = open_store(self.config)
        self.group.store, self.group.puller = self.store, self.store.puller

    @rule()
    def redrive(self):
        dead = self.store.subscriptions.dead("jobs", 0, 100).rows
        assert self.store.subscriptions.redrive("jobs", None, DEED) == len(dead)

    @invariant()
    def every_message_is_somewhere(self):
        counts = self.group.counts
        there = counts.lag + counts.leased + counts.waiting + counts.dead
        assert there == len(self.stored) - len(self.acknowledged)

    def teardown(self):
        self.writer.close()
        self.store.reader.close()
        self.patch.undo()
        self.folder.cleanup()


Consumers.TestCase.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestConsumers = Consumers.TestCase
