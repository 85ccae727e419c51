"""Every container is killed, and every one is restarted, in turn and under load."""

import json

import pytest
from cluster import BROKERS, SERVICES
from engine import docker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

#: Seconds: the promise.
OUTAGE = 10.0


def test_each_container_can_be_killed_and_comes_back(cluster, under_load):
    leader = cluster.leader()
    followers = [each for each in BROKERS if each != leader]
    databases = cluster.databases
    # What others can do meanwhile may be killed at once.
    rounds = (
        (leader, "worker-1", databases.standby),
        (followers[0], "api-1"),
        (followers[1], "api-2", "worker-2", databases.primary, "janitor", "deliver"),
        ("proxy",),
    )
    assert sorted(each for killed in rounds for each in killed) == sorted(SERVICES)
    with under_load() as load:
        for killed in rounds:
            load.wait_accepted(100)
            cluster.kill(*killed)
            if "proxy" not in killed:
                load.wait_some_accepted(200)
            cluster.bring_back(*killed)
            for each in killed:
                cluster.wait_back(each)
        load.wait_accepted(100)
        load.note(killed=len(SERVICES))
    load.verify()
    assert load.figures.outage_seconds < OUTAGE


def test_everything_can_be_restarted_host_by_host(cluster, under_load):
    databases = cluster.databases
    hosts = (
        ("worker-1", "api-1", "janitor", "deliver", "broker-1"),
        ("worker-2", "api-2", "broker-2"),
        ("broker-3", databases.standby),
        (databases.primary,),
        ("proxy",),
    )
    assert sorted(each for host in hosts for each in host) == sorted(SERVICES)
    with under_load() as load:
        for host in hosts:
            load.wait_accepted(60)
            for each in host:
                cluster.restart(each)
            for each in host:
                cluster.wait_back(each)
        load.wait_accepted(60)
    load.verify()
    assert load.figures.outage_seconds < OUTAGE


def test_each_container_has_bounds_and_no_right_that_it_can_do_without(running):
    cluster = running
    secrets = [(cluster.folder / name).read_text() for name in ("token", "postgres-password")]
    secrets += [secret for url in ("broker-url", "database-url")
                for secret in cluster.passwords_in(url)]  # fmt: skip
    for service in SERVICES:
        found = cluster.inspect(service)
        host = found["HostConfig"]
        assert host["RestartPolicy"]["Name"] == "unless-stopped"
        assert host["ReadonlyRootfs"] is True
        assert host["CapDrop"] == ["ALL"]
        assert not host["CapAdd"]
        assert "no-new-privileges:true" in host["SecurityOpt"]
        assert host["Memory"] > 0
        assert host["PidsLimit"] > 0
        assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "5"}
        assert not [secret for secret in secrets if secret in json.dumps(found)], service
        log = docker("logs", cluster.name(service))
        assert not [secret for secret in secrets if secret in log], service


def test_the_two_hosts_share_no_file(running):
    hosts = [
        {mount["Name"] for each in of_host for mount in running.inspect(each)["Mounts"]
         if mount["Type"] == "volume"}
        for of_host in (("api-1", "worker-1", "janitor", "deliver"), ("api-2", "worker-2"))
    ]  # fmt: skip
    assert all(len(volumes) == 2 for volumes in hosts), hosts
    assert not hosts[0] & hosts[1]
