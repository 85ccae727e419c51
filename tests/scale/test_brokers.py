"""Loss of brokers, by kill -9 and by a cut network, under load."""

import time

import pytest
from cluster import BROKERS, CLIENTS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

#: Seconds: the promise. A node that still answers is left a little later.
OUTAGE = 10.0
LEFT = {False: 6.0, True: 8.0}
#: Seconds for which a network stays cut: longer than it takes to notice, so that somebody else
#: leads, and to believe the node dead.
CUT = 9.0


def test_the_doctor_sees_three_nodes_that_keep_the_queues_and_a_synchronous_standby(running):
    said = running.cli("doctor").stdout.decode()
    assert "3 of 3 nodes take connections" in said, said
    three = "kept by rabbit@broker-1, rabbit@broker-2, rabbit@broker-3"
    assert said.count(three) == 2, said
    assert f"stored also at once by: {running.databases.standby}" in said, said


@pytest.mark.long
def test_the_leader_can_be_killed_and_come_back(cluster, under_load):
    leader = cluster.leader()
    with under_load() as load:
        load.wait_accepted(300)
        cluster.kill(leader)
        load.wait_accepted(600)
        cluster.bring_back(leader)
        cluster.wait_whole()
        load.wait_accepted(300)
        load.note(leader=leader)
    load.verify()
    assert load.figures.outage_seconds < OUTAGE


@pytest.mark.parametrize("from_brokers_only", [False, pytest.param(True, marks=pytest.mark.long)])
def test_the_leader_can_be_cut_off_its_clients_leave_it_and_nothing_stays_split(
    cluster, under_load, from_brokers_only
):
    cluster.lead(next(iter(cluster.connected("api-1"))))
    leader = cluster.leader()
    theirs = [each for each in CLIENTS if leader in cluster.connected(each)]
    assert "api-1" in theirs
    with under_load() as load:
        load.wait_accepted(300)
        with cluster.cut(leader, from_brokers_only=from_brokers_only):
            cut_at = time.monotonic()
            left = cluster.seconds_until_left(theirs, leader, cut_at)
            load.wait_accepted(300)
            time.sleep(max(0.0, CUT - (time.monotonic() - cut_at)))
            elsewhere = [cluster.connected(each) - {leader} for each in theirs]
        cluster.wait_whole()
        load.wait_accepted(300)
        load.note(clients_at_it=len(theirs), left_within=round(left, 1))
    load.verify()
    assert all(elsewhere), elsewhere
    assert left < LEFT[from_brokers_only]
    assert load.figures.outage_seconds < OUTAGE


@pytest.mark.long
def test_two_brokers_killed_within_a_second_come_back_and_nothing_is_lost(cluster, under_load):
    leader = cluster.leader()
    other = next(each for each in BROKERS if each != leader)
    with under_load() as load:
        load.wait_accepted(300)
        cluster.kill(leader)
        time.sleep(0.8)
        cluster.kill(other)
        time.sleep(2.0)  # one of three keeps nothing safe, and so it answers 503
        cluster.bring_back(leader)
        time.sleep(0.8)
        cluster.bring_back(other)
        began = time.monotonic()
        load.wait_accepted(300, timeout=90)
        load.note(again_after=round(time.monotonic() - began, 1))
        cluster.wait_whole()
    load.verify()
