"""Addresses that a delivery may go to."""

import ipaddress

import pytest

from appliance.machine.outward import refusal

OWN = (
    "127.0.0.1", "127.8.8.8", "::1", "0.0.0.0", "::", "10.0.0.1", "172.16.0.1", "172.31.255.255",
    "192.168.1.1", "169.254.169.254", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "fc00::1",
    "100.64.0.1", "100.127.255.254", "192.0.0.8", "192.0.2.1", "198.18.0.1", "203.0.113.1",
    "192.88.99.1", "2001:10::1", "3fff::1", "5f00::1",
    "224.0.0.1", "239.255.255.250", "ff02::1", "240.0.0.1", "255.255.255.255", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::808:808", "2002:7f00:1::", "2002:a00:1::1",
    "2001:0:4136:e378:8000:63bf:80ff:fffe", "", "localhost", "0x7f.1", "2130706433", "127.1",
)  # fmt: skip
PUBLIC = (
    "1.1.1.1", "93.184.215.14", "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111",
    "::ffff:1.1.1.1", "64:ff9b::808:808", "2002:808:808::1",
)  # fmt: skip


@pytest.mark.parametrize("address", OWN)
def test_addresses_of_our_own_networks_are_refused_in_words(address):
    assert refusal(address, ()).startswith(f"{address} is ")


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address):
    assert refusal(address, ()) == ""


def test_a_network_that_is_listed_is_allowed_in_every_form_and_no_other():
    listed = [ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00::/64")]
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::7"):
        assert refusal(address, listed) == ""
    for address in ("10.2.0.1", "::ffff:10.2.0.1", "fd01::7", "127.0.0.1"):
        assert refusal(address, listed)
