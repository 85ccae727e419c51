"""Addresses that a delivery may go to: none of our own networks, unless the operator lists it.

Who may name a URL could otherwise have the appliance ask services that only it can reach: the
machine's own, a cloud's metadata, a router. So the address that a name stands for is looked at, and
the connection must go to that very address: a name can stand for another one a moment later.

The ranges are those of IANA's registries of special addresses, which Python's `ipaddress` knows,
and the forms in which an IPv6 address carries an IPv4 one.
"""

import ipaddress
from collections.abc import Sequence
from typing import Final, TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Translated by a NAT64 on the way, RFC 6052 and RFC 8215: the last four bytes are IPv4.
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
#: IPv4-compatible, RFC 4291: deprecated, and still understood by some systems.
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")
#: Of the registries, too, and not known to every release of Python.
_SPECIAL: Final[tuple[Network, ...]] = tuple(
    map(
        ipaddress.ip_network,
        (
            "192.0.0.0/24", "192.88.99.0/24", "64:ff9b:1::/48", "2001::/23", "3fff::/20",
            "5f00::/16",
        ),
    )
)  # fmt: skip


def refusal(address: str, listed: Sequence[Network]) -> str:
    """Return in words why nothing is sent to an IP address; empty where it may be.

    `listed` are the networks that the operator allows.
    """
    try:
        given = ipaddress.ip_address(address)
    except ValueError:  # such as one with a scope, fe80::1%eth0
        return f"{address} is no address that can be checked"
    meant = _meant(given)
    for each in {given, meant}:
        if any(each.version == network.version and each in network for network in listed):
            return ""
    if meant.is_loopback:
        kind = "is the appliance's own machine"
    elif meant.is_link_local:
        kind = "is a link-local address"
    elif meant.is_multicast:
        kind = "is a multicast address"
    elif meant.is_unspecified:
        kind = "is no machine's address"
    elif not meant.is_global or _is_special(given) or _is_special(meant):
        kind = "is in a private or reserved network"
    else:
        return ""
    return f"{address} {kind}"


def _is_special(address: Address) -> bool:
    return any(address.version == each.version and address in each for each in _SPECIAL)


def _meant(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one carries; any other as it is."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
