"""The names of shards, their state together, and what of them is kept on disk."""

import dataclasses

import pytest

from appliance.broker import shards
from appliance.broker.base import BrokerState
from appliance.broker.publish import last_words
from appliance.broker.publish.publisher import AmqpPublisher
from appliance.broker.publish.sharded import ShardedPublisher, together
from appliance.broker.shards import Shard
from appliance.cli.commands import processes
from appliance.config import load
from appliance.errors import ConfigError
from appliance.model.ledger import LedgerEntry
from appliance.model.tallies import PublishTally

WELL = BrokerState(True, False, True, None, 3, 2, 0.5, oldest_seconds=1.0)


def test_one_shard_is_the_queue_of_always_and_says_nothing_in_an_envelope():
    assert (Shard().queue, Shard().label) == ("appliance.store", "")
    assert shards.all_of(1) == [Shard()]
    assert {shards.of_topic(topic, 1) for topic in ("a", "orders", "logs.web")} == {0}


def test_each_number_of_shards_has_queues_of_its_own():
    names = [shard.queue for number in (1, 2, 4) for shard in shards.all_of(number)]
    assert names == [
        "appliance.store", "appliance.store.2.0", "appliance.store.2.1", "appliance.store.4.0",
        "appliance.store.4.1", "appliance.store.4.2", "appliance.store.4.3",
    ]  # fmt: skip


def test_a_topic_is_in_the_same_shard_in_every_process_and_version():
    # Another answer in a later version would lose the order of what is queued at its upgrade.
    found = {topic: shards.of_topic(topic, 4) for topic in ("orders", "logs.web", "till-7", "a")}
    assert found == {"orders": 2, "logs.web": 2, "till-7": 3, "a": 3}


def test_topics_spread_over_the_shards():
    counts = [0] * 8
    for number in range(8000):
        counts[shards.of_topic(f"device-{number}", 8)] += 1
    assert min(counts) > 800
    assert max(counts) < 1200


def test_shards_need_brokers_of_their_own():
    url = "amqp://broker.example"
    assert load({"APPLIANCE_SHARDS": "4", "APPLIANCE_BROKER_URL": url}).shards == 4
    with pytest.raises(ConfigError, match="APPLIANCE_SHARDS: only the brokers in"):
        load({"APPLIANCE_SHARDS": "4"})
    with pytest.raises(ConfigError, match="expected one of 1, 2, 4, 8, 16"):
        load({"APPLIANCE_SHARDS": "3", "APPLIANCE_BROKER_URL": url})


def test_the_publisher_of_one_shard_is_the_publisher_of_always(tmp_path):
    environ = {"APPLIANCE_DATA": str(tmp_path), "APPLIANCE_BROKER_URL": "amqp://broker.example"}
    two = environ | {"APPLIANCE_SHARDS": "2"}
    assert type(processes.new_publisher(load(environ))) is AmqpPublisher
    assert type(processes.new_publisher(load(two))) is ShardedPublisher


def test_the_state_of_all_shards_is_that_of_the_worst_and_the_sum_of_what_waits():
    bad = dataclasses.replace(
        WELL, accepting=False, reason="not connected yet", connected=False, depth=4, consumers=0,
        oldest_seconds=9.0, stalled_seconds=2.0, stalled="no confirm", full=True,
    )  # fmt: skip
    state = together([WELL, bad])
    assert (state.accepting, state.reason, state.connected) == (False, "not connected yet", False)
    assert (state.depth, state.consumers, state.oldest_seconds) == (7, 0, 9.0)
    assert (state.stalled_seconds, state.stalled, state.full) == (2.0, "no confirm", True)
    assert state.shards == (WELL, bad)
    assert together([WELL, WELL]).accepting


def test_depth_is_not_known_where_one_shard_was_not_seen():
    unseen = dataclasses.replace(WELL, depth=None, consumers=None, checked_seconds_ago=None)
    state = together([WELL, unseen])
    assert (state.depth, state.consumers, state.checked_seconds_ago) == (None, None, None)


def test_tallies_of_shards_are_added():
    one, other = PublishTally(), PublishTally()
    for tally, count in ((one, 2), (other, 3)):
        tally.accepted = tally.published = tally.confirmed = tally.nacked = count
        tally.took.observe(0.5, count)
    one.add(other)
    assert (one.accepted, one.published, one.confirmed, one.nacked) == (5, 5, 5, 5)
    assert (sum(one.took.buckets), one.took.seconds) == (5, 2.5)


def test_last_words_of_each_shard_are_kept_apart_and_read_together(tmp_path):
    entries = []
    for number, shard in enumerate((Shard(), Shard(2, 0), Shard(2, 1))):
        entry = LedgerEntry(f"{number:016x}", None, 7, [])
        folder = last_words.folder(tmp_path, shard)
        folder.mkdir()
        (folder / entry.source).write_text(entry.encode())
        entries.append(entry)
    assert sorted(last_words.recorded(tmp_path), key=lambda e: e.source) == entries
