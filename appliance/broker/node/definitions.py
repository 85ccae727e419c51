"""The user, the permissions and the policies that our own RabbitMQ node imports at each start."""

import base64
import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from appliance.broker.base import DEAD, EXCHANGE, MATCH, MQTT, QUEUE, STORED, SUBSCRIBERS, USER

#: Bounds of a queue of a subscriber's: it holds the newest messages, and a week at most. One that
#: nobody has used for a week is removed.
_SUBSCRIBER_QUEUE: Final = {
    "max-length": 100_000,
    "max-length-bytes": 32 * 2**20,
    "overflow": "drop-head",
    "message-ttl": 7 * 86_400_000,
    "expires": 7 * 86_400_000,
}
_DOT: Final = re.escape(".")
#: Queues of the node, ours included.
MOST_QUEUES: Final = 64
#: The same of a stream; it keeps the segment that it writes, and one more.
_SUBSCRIBER_STREAM: Final = {
    "max-length-bytes": 32 * 2**20,
    "max-age": "7D",
    "stream-max-segment-size-bytes": 8 * 2**20,
}


def hash_password(password: str, salt: bytes) -> str:
    """Return `password` as RabbitMQ stores it: base64 of the salt (4 bytes) and a SHA-256."""
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def definitions(
    password: str,
    queue_max_bytes: int,
    queue_max_envelopes: int,
    others: Mapping[str, Sequence[Mapping[str, Any]]],
    drained: Sequence[str] = (),
    *,
    mqtt: bool = False,
) -> dict[str, Any]:
    """Return the definitions that the node imports at each start.

    `others` are the users and permissions of others (`node.users`), `drained` the names of queues
    that others made. With `mqtt` the exchange of that door is there from the first moment: RabbitMQ
    3 leaves a client that misses it without an answer for as long as it stays connected.

    The limits of the queue are a policy and not arguments of the queue, because arguments could
    not be changed later.
    """
    bounds = _bounds(queue_max_bytes, queue_max_envelopes)
    subscribers = {"pattern": f"^{SUBSCRIBERS.replace('.', '[.]')}"}
    return {
        "users": [
            {
                "name": USER,
                "password_hash": hash_password(password, secrets.token_bytes(4)),
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": [],
            },
            *others["users"],
        ],
        "vhosts": [{"name": "/"}],
        "permissions": [
            {"user": USER, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"},
            *others["permissions"],
        ],
        "topic_permissions": others["topic_permissions"],
        "policies": [
            # A message that is given up stays in its queue until the other queue has it on disk.
            _policy(
                USER,
                QUEUE,
                {
                    **bounds,
                    "dead-letter-exchange": DEAD,
                    "dead-letter-strategy": "at-least-once",
                },
            ),
            _policy(f"{USER}-dead", DEAD, bounds),
            {**_policy(f"{USER}-sub", "", _SUBSCRIBER_QUEUE), **subscribers, "priority": 1},
            # RabbitMQ leaves a policy aside of which a queue's type does not know every part.
            {**_policy(f"{USER}-sub-stream", "", _SUBSCRIBER_STREAM), **subscribers},
            *queue_policies(queue_max_bytes, queue_max_envelopes, drained),
        ],
        "exchanges": [
            _exchange(STORED, "topic"),
            _exchange(MATCH, "headers"),
            # As `topology` declares it.
            *([_exchange(MQTT, "topic", {"alternate-exchange": EXCHANGE})] if mqtt else []),
        ],
        "bindings": [
            {
                "vhost": "/",
                "source": STORED,
                "destination": MATCH,
                "destination_type": "exchange",
                "routing_key": "#",
                "arguments": {},
            }
        ],
        # Of all users together: RabbitMQ bounds no user's queues. Connections are bounded for each
        # user alone: a common bound would keep the appliance's own out where others were faster.
        "parameters": [
            {
                "vhost": "/",
                "component": "vhost-limits",
                "name": "limits",
                "value": {"max-queues": MOST_QUEUES},
            }
        ],
    }


def queue_policies(max_bytes: int, most: int, queues: Sequence[str]) -> list[dict[str, Any]]:
    """Return policies that bound queues of others as our own is bounded; a stream more tightly."""
    bounds = _bounds(max_bytes, most)
    return [
        policy
        for queue in queues
        for policy in (
            {**_policy(f"{USER}-queue-{queue}", queue, bounds), "priority": 1},
            _policy(f"{USER}-stream-{queue}", queue, _SUBSCRIBER_STREAM),
        )
    ]


def _exchange(name: str, kind: str, arguments: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "vhost": "/",
        "name": name,
        "type": kind,
        "durable": True,
        "auto_delete": False,
        "internal": False,
        "arguments": arguments or {},
    }


def _bounds(max_bytes: int, most: int) -> dict[str, Any]:
    return {"max-length-bytes": max_bytes, "max-length": most, "overflow": "reject-publish"}


def _policy(name: str, queue: str, definition: dict[str, Any]) -> dict[str, Any]:
    return {
        "vhost": "/",
        "name": name,
        "pattern": f"^{re.escape(queue).replace(_DOT, '[.]')}$",
        "apply-to": "queues",
        "priority": 0,
        "definition": definition,
    }
