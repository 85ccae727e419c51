"""Whose envelopes count: what a consumer makes of the queue's head, and of what comes later."""

import pika
import pytest

from appliance import config as configuration
from appliance.broker.node.synced import SIGNED
from appliance.broker.trust import Trust

OURS = pika.BasicProperties(type="appliance.message", user_id="appliance")
EARLIER = pika.BasicProperties(type="appliance.message")
OTHERS = pika.BasicProperties(type="appliance.message", user_id="billing")
SENT_BACK = pika.BasicProperties(
    type="appliance.message", user_id="appliance", headers={"x-death": [{"reason": "expired"}]}
)


def load(folder, **more):
    return configuration.load({"APPLIANCE_DATA": str(folder), **more})


@pytest.fixture
def own(tmp_path):
    return load(tmp_path)


def connected(config, dead=0):
    trust = Trust(config)
    trust.begin(dead)
    return trust


def test_envelopes_of_an_earlier_version_count_as_long_as_one_can_be_in_the_queue(own):
    trust = connected(own)
    assert trust.is_ours(EARLIER)
    assert trust.is_ours(OURS)
    assert trust.is_ours(EARLIER)  # it comes again, perhaps
    assert not (own.broker_home / SIGNED).exists()


def test_unsigned_envelope_does_not_count_once_the_queues_first_one_was_signed(own):
    trust = connected(own)
    assert trust.is_ours(OURS)
    assert not trust.is_ours(EARLIER)
    assert not connected(own).is_ours(EARLIER)  # for good, in each process


def test_queue_that_was_emptied_of_earlier_envelopes_is_known_by_the_next_connection(own):
    trust = connected(own)
    assert trust.is_ours(EARLIER)
    assert trust.is_ours(OURS)
    trust.begin()
    assert trust.is_ours(OURS)
    assert not trust.is_ours(EARLIER)


def test_worker_that_stood_by_heeds_what_another_one_found(own):
    standby = connected(own)
    assert connected(own).is_ours(OURS)
    assert not standby.is_ours(EARLIER)


def test_envelope_of_another_user_never_counts(own):
    trust = connected(own)
    assert not trust.is_ours(OTHERS)
    assert trust.is_ours(OURS)
    assert not trust.is_ours(OTHERS)
    assert not trust.is_ours_among_the_dead(OTHERS)


def test_envelope_of_ours_that_another_queue_sent_back_does_not_count_among_messages(own):
    trust = connected(own)
    assert trust.is_ours(OURS)
    assert not trust.is_ours(SENT_BACK)
    assert trust.is_ours_among_the_dead(SENT_BACK)


def test_dead_letters_that_waited_before_the_mark_was_made_can_be_unsigned(own):
    trust = connected(own, dead=1)
    assert trust.is_ours(OURS)
    assert trust.is_ours_among_the_dead(EARLIER)
    assert not trust.is_ours_among_the_dead(EARLIER)
    assert not connected(own, dead=1).is_ours_among_the_dead(EARLIER)


def test_mark_that_cannot_be_written_counts_all_the_same(own):
    own.broker_home.write_text("no folder")
    trust = connected(own)
    assert trust.is_ours(OURS)
    assert not trust.is_ours(EARLIER)


def test_outside_broker_is_believed_unless_its_users_are_named(tmp_path):
    url = {"APPLIANCE_BROKER_URL": "amqp://inbox:secret@broker.example/"}
    open_to_all = connected(load(tmp_path, **url))
    assert all(map(open_to_all.is_ours, (OURS, EARLIER, OTHERS, SENT_BACK)))
    assert open_to_all.is_ours_among_the_dead(EARLIER)
    named = connected(load(tmp_path, **url, APPLIANCE_BROKER_USERS="appliance, edge"), dead=3)
    assert named.is_ours(OURS)
    assert named.is_ours(pika.BasicProperties(user_id="inbox"))  # the one of the URL
    assert not any(map(named.is_ours, (EARLIER, OTHERS, SENT_BACK)))
