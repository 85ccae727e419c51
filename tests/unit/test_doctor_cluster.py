"""The doctor's look at a cluster of brokers."""

import contextlib
import socket
import struct

import pytest
from harness import free_port

from appliance.broker import amqp_values, queue_members
from appliance.config import load
from appliance.doctor import cluster
from appliance.doctor.diagnosis import Level
from appliance.errors import BrokerError

THREE = ["rabbit@a", "rabbit@b", "rabbit@c"]


@pytest.fixture
def diagnoses(monkeypatch):
    """Return what is said of nodes that listen and others that don't, and a queue's members."""

    def diagnose(listening, silent, members):
        def asked(_, __):
            if members == "unknown":
                raise BrokerError("it ended the connection")
            return members

        monkeypatch.setattr(queue_members, "members", asked)
        with contextlib.ExitStack() as stack:
            ports = [free_port() for _ in range(silent)]
            for _ in range(listening):
                ears = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
                ports.append(ears.getsockname()[1])
            urls = ",".join(f"amqp://127.0.0.1:{port}" for port in ports)
            return list(cluster.nodes(load({"APPLIANCE_BROKER_URL": urls})))

    return diagnose


def test_one_broker_is_no_cluster():
    assert list(cluster.nodes(load({}))) == []
    assert list(cluster.nodes(load({"APPLIANCE_BROKER_URL": "amqp://127.0.0.1:1"}))) == []


def test_a_whole_cluster_is_well(diagnoses):
    found = diagnoses(3, 0, THREE)
    assert [each.level for each in found] == [Level.OK] * 3
    assert found[0].found == "3 of 3 nodes take connections"


def test_a_node_that_is_missing_and_all_of_them_are_said(diagnoses):
    assert diagnoses(2, 1, THREE)[0].level is Level.WARNING
    (only,) = diagnoses(0, 2, THREE)
    assert only.level is Level.ERROR


def test_a_queue_with_fewer_members_is_said_with_what_to_do(diagnoses):
    found = diagnoses(3, 0, ["rabbit@a"])[1]
    assert (found.check, found.level) == ("queue appliance.store", Level.WARNING)
    assert "add_member appliance.store NODE" in found.advice


@pytest.mark.parametrize("members", [None, "unknown"])
def test_a_queue_that_is_not_there_and_a_broker_that_does_not_tell_are_no_fault(diagnoses, members):
    assert diagnoses(3, 0, members)[1].level is Level.OK


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (b"\x40", None),
        (b"\x41", True),
        (b"\x53\x07", 7),
        (b"\xa1\x02ok", "ok"),
        (b"\xc0\x03\x02\x43\x41", [0, True]),
        (b"\xc1\x07\x02\xa1\x01a\xa1\x01b", {"a": "b"}),
        (b"\xe0\x08\x02\xa1\x02ab\x02cd", ["ab", "cd"]),
        (b"\x00\x53\x77\x40", (0x77, None)),
    ],
)
def test_values_of_the_newer_amqp_are_read(written, value):
    assert amqp_values.decode(written + b"rest") == (value, b"rest")


@pytest.mark.parametrize("written", [b"", b"\x01", b"\x70\x00", b"\xc1\x04\x01\xa1\x01a"])
def test_bytes_that_are_no_value_are_an_error(written):
    with pytest.raises((ValueError, LookupError, struct.error)):
        amqp_values.decode(written)
