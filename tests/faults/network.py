"""A broker in a network of its own, which can be cut off. Needs root, `ip` and `iptables`."""

import ipaddress
import json
import os
import subprocess
import uuid
from collections.abc import Iterable

from harness import Stack

from appliance import credentials


def root(*command: str) -> None:
    """Run what only root may; fail with words."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (
        f"{' '.join(command)}: {done.stderr.strip()} (these tests need root, ip and iptables)"
    )


def routed() -> list[ipaddress.IPv4Network]:
    """The networks that this machine has a route to, but for the rest of the world."""
    listed = subprocess.run(["ip", "-json", "-4", "route", "show"], capture_output=True, check=True)
    return [
        ipaddress.IPv4Network(route["dst"])
        for route in json.loads(listed.stdout)
        if route["dst"] != "default"
    ]


def free_block(taken: Iterable[ipaddress.IPv4Network]) -> ipaddress.IPv4Network:
    """Four addresses for documentation (RFC 5737) that overlap none of `taken`: some machines
    have addresses of this kind themselves, and theirs would answer in the broker's stead."""
    taken = list(taken)
    for network in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"):
        for block in ipaddress.IPv4Network(network).subnets(new_prefix=30):
            if not any(block.overlaps(other) for other in taken):
                return block
    raise AssertionError("every address for documentation is in use on this machine (ip route)")


class Network:
    """A network namespace, joined to ours by a pair of virtual cables."""

    def __init__(self) -> None:
        assert os.getuid() == 0, "a network of its own needs root; run these tests as root"
        self.name = f"faults-{uuid.uuid4().hex[:8]}"
        self._cable = f"f{self.name[-8:]}"
        self.ours, self.theirs = map(str, free_block(routed()).hosts())

    def make(self) -> None:
        other = f"{self._cable}p"
        root("ip", "netns", "add", self.name)
        root("ip", "link", "add", self._cable, "type", "veth", "peer", "name", other)
        root("ip", "link", "set", other, "netns", self.name)
        root("ip", "addr", "add", f"{self.ours}/30", "dev", self._cable)
        root("ip", "link", "set", self._cable, "up")
        self.inside("ip", "addr", "add", f"{self.theirs}/30", "dev", other)
        self.inside("ip", "link", "set", other, "up")
        self.inside("ip", "link", "set", "lo", "up")

    def inside(self, *command: str) -> None:
        root("ip", "netns", "exec", self.name, *command)

    def remove(self) -> None:
        subprocess.run(["ip", "link", "del", self._cable], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True, check=False)

    def cut(self, *how: str) -> None:
        """Stop what comes to the broker, in both directions: `-j DROP`, or `-j REJECT ...`."""
        self.inside("iptables", "-I", "INPUT", "-s", self.ours, "-p", "tcp", *how)

    def mend(self) -> None:
        self.inside("iptables", "-F", "INPUT")


class Remote(Stack):
    """A stack whose broker is on the other side of a network; the others have its address."""

    def __init__(self, folder, network: Network, **settings) -> None:
        super().__init__(folder, 2, settings)
        address = f"{network.theirs}:{self.broker.port}"
        self.broker.env["APPLIANCE_AMQP"] = address
        process = self.broker.process
        process.command = ["ip", "netns", "exec", network.name, *process.command]
        password = credentials.broker_password(self.broker.config)
        url = f"amqp://appliance:{password}@{address}/"
        self.env = {**self.env, "APPLIANCE_BROKER_URL": url}
        for other in (self.api, *self.workers):
            other.env = self.env
