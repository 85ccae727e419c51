"""Addresses of a host that a delivery may connect to: looked up, checked, then connected to.

A name can stand for another address a moment later, so the connection goes to the very address that
was checked, and to no name. An address that a URL has in it is checked likewise, each time.
"""

from collections.abc import Sequence

from appliance.machine import names, outward
from appliance.machine.outward import Network


class OutOfReachError(Exception):
    """Nothing is sent to this host; the message says why, in words for its owner."""


async def addresses(host: str, port: int, listed: Sequence[Network]) -> list[str]:
    """Return the addresses of a host that may be connected to, in order.

    Raises OutOfReachError where it has none.
    """
    try:
        found = await names.addresses(names.without_lookup(host), port)
    except OSError as error:
        raise OutOfReachError(f"{host} has no address: {error}") from error
    refusals = {address: outward.refusal(address, listed) for address in found}
    allowed = [address for address in found if not refusals[address]]
    if not allowed:
        why = next(iter(refusals.values()), f"{host} has no address")
        raise OutOfReachError(f"{why}; APPLIANCE_DELIVER_ALLOW lists the networks that may be")
    return allowed
