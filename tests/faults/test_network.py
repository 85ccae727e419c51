"""A broker that can't be reached: packets that vanish, and connections that are reset."""

import time
from ipaddress import IPv4Network

import pytest
from harness import START_SECONDS, wait_until
from network import Network, Remote, free_block

#: Seconds. Every request of these tests must be answered within this, and some slack.
PUBLISH_TIMEOUT, SLACK = 3.0, 3.0


@pytest.fixture(scope="module")
def network():
    made = Network()
    try:
        made.make()
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module")
def shared(network, tmp_path_factory):
    made = Remote(tmp_path_factory.mktemp("remote"), network, publish_timeout=PUBLISH_TIMEOUT)
    try:
        yield made.start()
    finally:
        made.close()


@pytest.fixture
def remote(shared, network):
    shared.wait_ready()
    yield shared
    network.mend()


def check_answers(load):
    """Every request was answered in its time, although nothing came from the broker."""
    assert set(load.sending.journal.answers) == {202, 503}
    assert max(attempt.seconds for attempt in load.journal) < PUBLISH_TIMEOUT + SLACK


def test_a_network_for_tests_avoids_what_the_machine_has_a_route_to():
    """A machine that has such an address itself would answer in the broker's stead."""
    taken = [IPv4Network("192.0.2.0/24"), IPv4Network("198.51.100.0/29")]
    assert free_block(taken) == IPv4Network("198.51.100.8/30")
    with pytest.raises(AssertionError, match="ip route"):
        free_block([IPv4Network("192.0.0.0/4")])


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [5, 25])
def test_a_broker_whose_packets_vanish_is_told_honestly_and_nothing_is_lost(
    remote, network, under_load, seconds
):
    """Longer than every heartbeat, and shorter; the shorter one costs no connection."""
    with under_load(remote) as load:
        load.wait_accepted(200, START_SECONDS)
        network.cut("-j", "DROP")
        time.sleep(seconds)
        accepted = load.sending.journal.accepted
        network.mend()
        load.wait_accepted(200, START_SECONDS)
    load.note(cut_for=f"{seconds} s")
    load.verify()
    assert accepted < load.sending.journal.accepted
    assert load.sending.journal.longest_outage > seconds - 1
    check_answers(load)


@pytest.mark.slow
def test_connections_to_the_broker_reset_again_and_again_lose_nothing(remote, network, under_load):
    """Each time, whoever sends anything has its connection cut at once."""
    with under_load(remote) as load:
        for _ in range(4):
            load.wait_accepted(200, START_SECONDS)
            network.cut("-j", "REJECT", "--reject-with", "tcp-reset")
            refused = len(load.refused)
            wait_until(
                lambda refused=refused: len(load.refused) > refused, "a 503", 60, remote.logs
            )
            network.mend()
        load.wait_accepted(200, START_SECONDS)
    load.note(resets=4)
    load.verify()
    check_answers(load)
