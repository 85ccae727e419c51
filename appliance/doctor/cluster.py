"""Checks of a cluster of brokers: which nodes answer, and which of them keep the messages."""

import asyncio
import socket
from collections.abc import Iterator
from typing import Any, Final

from appliance.broker import queue_members, shards
from appliance.broker.base import DEAD
from appliance.broker.broker_addresses import is_node, parameters, resolve
from appliance.broker.topology import MEMBERS
from appliance.config import Config
from appliance.doctor.diagnosis import Diagnosis, error, ok, warning
from appliance.errors import BrokerError

#: Seconds for a node to take a connection.
_KNOCK: Final = 2.0


def nodes(config: Config) -> Iterator[Diagnosis]:
    """Check the nodes, where the broker has several addresses."""
    if not config.broker_urls:
        return
    try:
        each = asyncio.run(resolve(parameters(config)))
    except BrokerError as trouble:
        yield error("cluster", str(trouble), "set APPLIANCE_BROKER_URL, or mend the name server")
        return
    if not is_node(each[0]):
        return
    there = [one for one in each if _answers(one)]
    missing = [f"{one.host}:{one.port}" for one in each if one not in there]
    found = f"{len(there)} of {len(each)} nodes take connections"
    if not there:
        yield error("cluster", found, "start the brokers, or look at the network between")
        return
    if missing:
        yield warning(
            "cluster",
            f"{found}; not {', '.join(missing)}",
            "start it, or look at the network: with one node less, the next loss stops everything",
        )
    else:
        yield ok("cluster", found)
    for queue in (*(shard.queue for shard in shards.all_of(config.shards)), DEAD):
        yield _kept(there[0], queue, min(MEMBERS, len(each)))


def _answers(one: Any) -> bool:
    try:
        with socket.create_connection((one.host, one.port), _KNOCK):
            return True
    except OSError:
        return False


def _kept(one: Any, queue: str, wanted: int) -> Diagnosis:
    """Check that enough nodes keep a queue: one of an earlier time can have fewer."""
    check = f"queue {queue}"
    try:
        members = queue_members.members(one, queue)
    except BrokerError:  # RabbitMQ before 4.0
        return ok(
            check, f"which nodes keep it is not known; ask `rabbitmq-queues quorum_status {queue}`"
        )
    if members is None:
        return ok(check, "not made yet")
    if len(members) < wanted:
        return warning(
            check,
            f"kept by {', '.join(members)} only: it was made with fewer members",
            f"for each further node: `rabbitmq-queues add_member {queue} NODE` on one of the "
            f"brokers, until {wanted} keep it",
        )
    return ok(check, f"kept by {', '.join(members)}")
